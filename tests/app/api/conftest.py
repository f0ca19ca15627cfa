"""Fixtures of the API tests: the platform uses the same servers as the application under test."""

from tests.fixtures.api import platform  # noqa: F401
