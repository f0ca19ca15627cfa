"""Fixtures of the tests of the development defaults."""

from tests.laneway.server.conftest import make_settings  # noqa: F401
