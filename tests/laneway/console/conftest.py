"""Fixtures of the tests of the console's pages."""

from tests.fixtures.api import platform  # noqa: F401
