"""The migrations, on both databases."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from app.db.fulltext import is_index_object
from app.db.migrate import alembic_config, upgrade
from app.db.models import Base
from app.db.session import Database


def test_the_migrations_make_exactly_the_models(database: Database) -> None:
    def relevant(name: str | None, _type: str, _parents: object) -> bool:
        return not is_index_object(name)

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": relevant})
        differences = compare_metadata(context, Base.metadata)

    assert differences == []


def test_a_second_upgrade_changes_nothing(database: Database) -> None:
    upgrade(database.url.render_as_string(hide_password=False))

    with database.reading() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "0001"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_many_upgrades_at_once_make_one_schema(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    if kind == "postgresql":
        _emptied(url)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade_alone, [url] * 4))

    database = Database(url)
    assert "task_runs" in inspect(database.engine).get_table_names()
    database.close()


def test_a_downgrade_takes_everything_away(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as session:
        config = alembic_config()
        config.attributes["connection"] = session.connection()
        command.downgrade(config, "base")

    assert inspect(sqlite_database.engine).get_table_names() == ["alembic_version"]


def upgrade_alone(url: str) -> None:
    """In a process of its own: Alembic keeps its context in the module, so threads cannot share it."""
    subprocess.run([sys.executable, "-c", f"from app.db.migrate import upgrade; upgrade({url!r})"], check=True)


def _emptied(url: str) -> None:
    database = Database(url)
    with database.transaction() as session:
        session.execute(text("DROP SCHEMA public CASCADE"))
        session.execute(text("CREATE SCHEMA public"))
    database.close()
