"""Fixtures of the API tests."""

from tests.fixtures.api import platform  # noqa: F401
