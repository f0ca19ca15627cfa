"""The API tests look at the same servers as the application under test."""

from tests.fixtures.api import platform  # noqa: F401
