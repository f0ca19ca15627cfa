"""The migrations of the platform and of the application, on SQLite and on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, text

from app.db.fulltext import is_index_object
from app.db.history import APPLICATION_HISTORY
from app.db.models import Base as ApplicationBase
from laneway.platform.db.migrate import alembic_configuration, upgrade
from laneway.platform.db.migration_history import PLATFORM_HISTORY, MigrationHistory
from laneway.platform.db.models import Base
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from tests.fixtures.forking import run_in_children
from tests.fixtures.held_database import held_by_another_program

HISTORIES = (PLATFORM_HISTORY, APPLICATION_HISTORY)


@pytest.fixture
def database(new_database: Database) -> Database:
    """Tests here change more than rows."""
    return new_database


def head(history: MigrationHistory) -> str | None:
    """The newest revision of a history."""
    return ScriptDirectory.from_config(alembic_configuration(history)).get_current_head()


def test_the_migrations_create_exactly_the_models(database: Database) -> None:
    all_tables = MetaData()
    for metadata in (Base.metadata, ApplicationBase.metadata):
        for table in metadata.tables.values():
            table.to_metadata(all_tables)
    versions = {history.version_table for history in HISTORIES}

    def relevant(name: str | None, _type: str, _parents: object) -> bool:
        return not is_index_object(name) and name not in versions

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": relevant})
        differences = compare_metadata(context, all_tables)

    assert differences == []


def test_the_platform_and_the_application_share_no_table() -> None:
    assert not set(Base.metadata.tables) & set(ApplicationBase.metadata.tables)
    assert PLATFORM_HISTORY.version_table != APPLICATION_HISTORY.version_table


def test_a_second_upgrade_changes_nothing(database: Database) -> None:
    upgrade(database.url.render_as_string(hide_password=False), HISTORIES)

    with database.reading() as session:
        for history in HISTORIES:
            version = session.scalar(text(f"SELECT version_num FROM {history.version_table}"))
            assert version == head(history)


def test_a_process_starts_while_another_program_holds_the_database(database: Database) -> None:
    with held_by_another_program(database), limit_waits(0.1):
        upgrade(database.url.render_as_string(hide_password=False), HISTORIES)


def test_the_platform_works_without_the_tables_of_an_application(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'library.db'}"
    upgrade(url)

    database = Database(url)
    tables = set(inspect(database.engine).get_table_names())
    database.close()
    assert tables == {*Base.metadata.tables, PLATFORM_HISTORY.version_table}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_simultaneous_upgrades_create_one_schema(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    if kind == "postgresql":
        _drop_schema(url)

    # Alembic keeps its context in a module, so threads cannot share it.
    run_in_children(*[lambda: upgrade(url, HISTORIES)] * 4, seconds=60)

    database = Database(url)
    assert {"task_runs", "conversations"} <= set(inspect(database.engine).get_table_names())
    database.close()


def test_a_downgrade_removes_everything(database: Database) -> None:
    for history in reversed(HISTORIES):
        with database.transaction() as session:
            config = alembic_configuration(history)
            config.attributes["connection"] = session.connection()
            command.downgrade(config, "base")

    assert set(inspect(database.engine).get_table_names()) == {history.version_table for history in HISTORIES}


def _drop_schema(url: str) -> None:
    database = Database(url)
    with database.transaction() as session:
        session.execute(text("DROP SCHEMA public CASCADE"))
        session.execute(text("CREATE SCHEMA public"))
    database.close()
