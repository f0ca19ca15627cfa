"""A program on tables that are older or newer than it is, on SQLite and on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from structlog.testing import capture_logs

from laneway.platform.db.migrate import upgrade
from laneway.platform.db.migration_history import PLATFORM_HISTORY, MigrationHistory
from laneway.platform.db.schema_versions import OldSchema, SchemaVersions
from laneway.platform.db.session import Database
from tests.fixtures.newer_schema import NEWER, newer_history


@pytest.fixture
def database(new_database: Database) -> Database:
    """Tests here change more than rows."""
    return new_database


@pytest.fixture
def newer(tmp_path: Path) -> MigrationHistory:
    """The history of a newer version."""
    return newer_history(tmp_path)


def url(database: Database) -> str:
    return database.url.render_as_string(hide_password=False)


def test_the_files_tell_the_revisions(newer: MigrationHistory) -> None:
    files = sorted((PLATFORM_HISTORY.folder / "versions").glob("0*.py"))

    assert list(PLATFORM_HISTORY.revisions.items())[:2] == [("0001", None), ("0002", "0001")]
    assert PLATFORM_HISTORY.head == files[-1].name[:4]
    assert (newer.head, newer.revisions[NEWER]) == (NEWER, PLATFORM_HISTORY.head)


def test_a_program_works_on_its_own_tables(database: Database) -> None:
    SchemaVersions(database, (PLATFORM_HISTORY,)).check()


def test_a_newer_program_refuses_older_tables_with_a_sentence(database: Database, newer: MigrationHistory) -> None:
    with pytest.raises(OldSchema) as refused:
        SchemaVersions(database, (newer,)).check()
    assert str(refused.value).startswith(
        "The tables of the database are older than this program: "
        f"laneway_version is {PLATFORM_HISTORY.head}, and it needs 9999. Run `laneway prepare` with this version first"
    )


def test_a_program_refuses_a_database_without_tables(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(OldSchema, match="laneway_version is missing"):
        SchemaVersions(database, (PLATFORM_HISTORY,)).check()
    database.close()


def test_an_older_program_goes_on_with_newer_tables_and_says_so_once(
    database: Database, newer: MigrationHistory
) -> None:
    upgrade(url(database), (newer,))
    versions = SchemaVersions(database, (PLATFORM_HISTORY,))
    with capture_logs() as lines:
        versions.check()
        versions.check()
        versions.report_newer()
    assert [line["found"] for line in lines] == [NEWER]
    assert "newer than this program, which goes on" in lines[0]["event"]


def test_an_upgrade_by_an_older_program_leaves_newer_tables_alone(database: Database, newer: MigrationHistory) -> None:
    upgrade(url(database), (newer,))
    upgrade(url(database), (PLATFORM_HISTORY,))
    with database.reading() as session:
        assert session.scalar(text("SELECT version_num FROM laneway_version")) == NEWER
    assert "seats" in inspect(database.engine).get_table_names()
