"""Errors of the database say what is wrong: a full disk is not a database that cannot be reached."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, text

from app.db.models import Report
from laneway.platform import clock
from laneway.platform.db import database_errors
from laneway.platform.db.database_errors import DatabaseFull, DatabaseUnusable
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable


@pytest.fixture
def database(new_database: Database) -> Database:
    """Tests here change more than rows."""
    return new_database


@pytest.fixture
def full(sqlite_database: Database) -> Generator[Database]:
    """A database whose file may not grow."""
    url = sqlite_database.url
    with closing(Database(str(url))) as database:
        limit(database)
        yield database


def limit(database: Database) -> None:
    """Let the file of the database not grow: SQLite refuses as on a full disk."""

    def stop_growth(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # SQLite takes the present size instead

    database.close()
    event.listen(database.engine, "connect", stop_growth)


def fill(database: Database) -> None:
    """Store more than the free pages of the file take."""
    with database.transaction() as session:
        for number in range(500):
            session.add(Report(id=str(number), kind="test", data={"text": "x" * 4000}, created_at=clock.now()))


def test_a_full_database_is_named_as_such_and_can_still_be_read(full: Database) -> None:
    with pytest.raises(DatabaseFull, match=r"laneway\.db has reached the limit of its size") as found:
        fill(full)

    assert "cannot be reached" not in str(found.value)
    with full.reading() as session:
        assert session.get(Report, "1") is None


def test_a_full_disk_is_named_with_its_folder(full: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_errors, "NO_ROOM", 2**63)  # this machine's disk counts as full
    with pytest.raises(DatabaseFull, match=f"the disk of {tmp_path} is full. Free space on it"):
        fill(full)


def test_a_file_that_is_no_database_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("notes of a meeting, and no database at all" * 100)
    damaged = pytest.raises(DatabaseUnusable, match=r"x\.db is damaged, or no SQLite database")
    with closing(Database(f"sqlite:///{tmp_path / 'x.db'}")) as database, damaged:
        fill(database)


def test_a_database_without_tables_says_which_command_makes_them(database: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="laneway prepare"), database.transaction() as session:
        session.execute(text("SELECT * FROM no_table_of_ours"))


def test_a_read_only_server_says_so(postgresql_database: Database) -> None:
    read_only = pytest.raises(DatabaseUnusable, match=r"it is read-only\. Name the primary server")
    with read_only, postgresql_database.transaction() as session:
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.add(Report(id="1", kind="test", data={}, created_at=clock.now()))


def test_a_violated_constraint_is_no_failure_of_the_database(database: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)not null|null value") as found, database.transaction() as session:
        session.add(Report(id="1", kind=None, data={}, created_at=clock.now()))

    assert not isinstance(found.value, DatabaseUnavailable)
