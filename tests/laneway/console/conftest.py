"""Fixtures of the tests of the console's pages."""

from tests.fixtures.api import platform  # noqa: F401
from tests.fixtures.console_pages import page  # noqa: F401
from tests.fixtures.emptied import on_one_database

pytest_generate_tests = on_one_database
