"""Connections end when their PostgreSQL server stands still, and not because a statement takes long."""

from __future__ import annotations

from time import monotonic

import pytest
from sqlalchemy import text

from laneway.platform.db import silent_server
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable
from tests.fixtures.databases import PostgresServer
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.parametrize("platform_database", ["postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask after a moment whether the server answers."""
    monkeypatch.setattr(silent_server, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(silent_server, "ASK_AGAIN_SECONDS", 0.1)


def answer(database: Database, statement: str) -> object:
    with database.reading() as session:
        return session.scalar(text(statement))


def test_a_statement_that_takes_long_ends_with_its_result(platform_database: Database) -> None:
    assert answer(platform_database, "SELECT 7 FROM pg_sleep(1)") == 7


def test_a_server_that_stands_still_is_an_error_soon_within_a_transaction_and_before_it(
    platform_database: Database, postgresql_server: PostgresServer
) -> None:
    with pytest.raises(DatabaseUnavailable, match="does not answer"), platform_database.reading() as session:
        assert session.scalar(text("SELECT 1")) == 1
        with postgresql_server.frozen():
            session.scalar(text("SELECT 1"))
    wait_until(lambda: is_back(platform_database), seconds=10)
    with postgresql_server.frozen():
        began = monotonic()
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            answer(platform_database, "SELECT 1")
        assert monotonic() - began < 20
    wait_until(lambda: is_back(platform_database), seconds=10)


def test_a_new_connection_to_a_server_that_stands_still_is_the_same_error(
    platform_database: Database, postgresql_server: PostgresServer
) -> None:
    platform_database.engine.dispose()
    with postgresql_server.frozen(), pytest.raises(DatabaseUnavailable, match="does not answer"):
        answer(platform_database, "SELECT 1")
    wait_until(lambda: is_back(platform_database), seconds=10)


def is_back(database: Database) -> bool:
    try:
        return answer(database, "SELECT 1") == 1
    except DatabaseUnavailable:
        return False
