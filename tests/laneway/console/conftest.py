"""Fixtures of the console's tests."""

from tests.fixtures.api import platform  # noqa: F401
