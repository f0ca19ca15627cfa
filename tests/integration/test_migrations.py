"""The migrations, on both databases."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Insert, MetaData, Table, insert, inspect, select, text

from app.core.catalog import PROCESS_MESSAGE
from app.db.fulltext import is_index_object
from app.db.migrate import alembic_config, upgrade
from app.db.models import Base, Lead, TaskRun, TaskTag, UtcDateTime
from app.db.session import Database
from app.schemas.task import State
from laneway import State as Place
from tests.fixtures.platform import Environment, celery_on, make_platform, settings_for
from tests.fixtures.valkey import RedisUrls


def head() -> str | None:
    """The newest revision."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


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
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == head()


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


def test_a_downgrade_takes_everything_away(database: Database) -> None:
    _bring(database, "base")

    assert inspect(database.engine).get_table_names() == ["alembic_version"]


# --- 0002: order, delays and leases move into the delivery engine --------------------------------------------

RUNNING_INDEX, LEASE = "uq_task_runs_running_key", "lease_until"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def first_version(database: Database) -> Database:
    """A database as the first version left it: every state, with a held task and a lease."""
    _bring(database, "0001")
    with database.transaction() as session:
        for id, state, more in (
            ("done", "completed", {"finished_at": LONG_AGO}),
            ("runs", "processing", {"attempts": 1, "worker": "w@old", "started_at": LONG_AGO, LEASE: LONG_AGO}),
            ("waits", "held", {}),
            ("next", "held", {"published_at": None}),
            ("later", "scheduled", {"due_at": LONG_AGO + timedelta(days=9999), "published_at": None}),
        ):
            session.execute(_insert(id, state, **more))
    return database


def test_a_database_of_the_first_version_is_upgraded_and_its_tasks_go_on(
    first_version: Database, environment: Environment, redis_urls: RedisUrls, tmp_path: Path
) -> None:
    assert RUNNING_INDEX in _indexes(first_version)
    upgrade(first_version.url.render_as_string(hide_password=False))

    assert RUNNING_INDEX not in _indexes(first_version)
    assert LEASE not in _columns(first_version)
    assert _states(first_version) == {
        "done": "completed", "runs": "processing", "waits": "pending", "next": "pending", "later": "scheduled",
    }  # fmt: skip
    settings = settings_for(environment, first_version, redis_urls, folder=tmp_path)
    with celery_on(settings) as app:
        platform = make_platform(settings, app, first_version, valkey=redis_urls.valkey)
        assert platform.steward().reconcile() == 4
        assert platform.state("runs") == State.PENDING, "its worker is gone"
        assert platform.places() == {"runs": Place.READY, "waits": Place.HELD, "next": Place.HELD,
                                     "later": Place.HELD}  # fmt: skip
        assert [platform.work() for _ in range(4)] == ["runs", "waits", "next", None]
        assert platform.places() == {"later": Place.SCHEDULED}


def test_a_downgrade_gives_back_leases_and_one_running_task_a_key(first_version: Database) -> None:
    """What runs gets a lease that is over: the first version takes over what has one, and nothing that has none."""
    upgrade(first_version.url.render_as_string(hide_password=False))
    with first_version.transaction() as session:
        session.execute(text("UPDATE task_runs SET state = 'processing', started_at = accepted_at WHERE id = 'waits'"))

    _bring(first_version, "0001")

    assert RUNNING_INDEX in _indexes(first_version)
    assert _states(first_version) == {
        "done": "completed", "runs": "processing", "waits": "pending", "next": "pending", "later": "scheduled",
    }  # fmt: skip
    with first_version.reading() as session:
        leased = session.execute(text("SELECT id FROM task_runs WHERE lease_until IS NOT NULL")).scalars().all()
        unsent = session.execute(text("SELECT id FROM task_runs WHERE published_at IS NULL")).scalars().all()
    assert (leased, unsent) == (["runs"], ["later"])
    upgrade(first_version.url.render_as_string(hide_password=False))
    assert LEASE not in _columns(first_version)


# --- 0003: attempts, events, steps and tags ------------------------------------------------------------------


def test_a_downgrade_keeps_tasks_in_states_that_the_version_before_knows(database: Database) -> None:
    with database.transaction() as session:
        for id, state in (("late", "expired"), ("done", "completed"), ("dead", "dead_letter")):
            session.execute(_insert(id, state, into=TaskRun.__table__))
            session.add(TaskTag(task_id=id, tag="t"))

    _bring(database, "0002")

    assert _states(database) == {"late": "cancelled", "done": "completed", "dead": "dead_letter"}
    assert not {"task_tags", "task_attempts", "task_events", "task_steps"} & set(
        inspect(database.engine).get_table_names()
    )
    upgrade(database.url.render_as_string(hide_password=False))
    with database.reading() as session:
        found = session.scalars(select(TaskRun).order_by(TaskRun.seq)).all()
        assert [(run.id, run.attempts_before, run.tags, run.options, run.raw) for run in found] == [
            (id, 0, [], {}, None) for id in ("late", "done", "dead")
        ]  # fmt: skip


# --- 0008: leads are known to a CRM --------------------------------------------------------------------------


def test_leads_that_were_there_get_ids_and_are_kept_by_a_downgrade(database: Database) -> None:
    _bring(database, "0006")
    with database.transaction() as session:
        for source_id in ("a", "b"):
            session.execute(
                text("INSERT INTO leads (source, source_id, fields, created_at) VALUES ('google', :id, '{}', :at)"),
                {"id": source_id, "at": LONG_AGO.replace(tzinfo=None)},
            )
    upgrade(database.url.render_as_string(hide_password=False))

    with database.reading() as session:
        leads = session.scalars(select(Lead).order_by(Lead.id)).all()
    assert [(lead.lead_id, lead.source_id, lead.version) for lead in leads] == [("lead-1", "a", 1), ("lead-2", "b", 1)]
    assert {(lead.crm_state, lead.crm_version, lead.updated_at) for lead in leads} == {("unsent", 0, LONG_AGO)}
    assert len({lead.uid for lead in leads}) == 2
    _bring(database, "0006")
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM leads")) == 2


def _bring(database: Database, revision: str) -> None:
    """Down to a revision."""
    with database.transaction() as session:
        config = alembic_config()
        config.attributes["connection"] = session.connection()
        command.downgrade(config, revision)


def _insert(id: str, state: str, *, into: Any = None, **more: object) -> Insert:
    """A row as the first version wrote it, or into the table of today."""
    values = {
        "id": id, "name": PROCESS_MESSAGE.name, "queue": PROCESS_MESSAGE.queue, "priority": 1,
        "key": "conversation_id:c", "payload": {"conversation_id": "c", "text": id}, "fingerprint": "", "state": state,
        "progress": 0, "attempts": 0, "max_retries": 3, "cancel_requested": False, "accepted_at": LONG_AGO,
        "published_at": LONG_AGO, **more,
    }  # fmt: skip
    return insert(_FIRST_VERSION if into is None else into).values(**values)


_FIRST_VERSION = Table(
    "task_runs",
    MetaData(),
    *(Column(name, Base.metadata.tables["task_runs"].c[name].type) for name in (
        "id", "name", "queue", "priority", "key", "payload", "fingerprint", "state", "progress", "attempts",
        "max_retries", "cancel_requested", "accepted_at", "published_at", "started_at", "finished_at", "due_at",
        "worker")),
    Column(LEASE, UtcDateTime()),
)  # fmt: skip


def _states(database: Database) -> dict[str, str]:
    with database.reading() as session:
        return {row[0]: row[1] for row in session.execute(text("SELECT id, state FROM task_runs"))}


def _indexes(database: Database) -> set[str | None]:
    return {index["name"] for index in inspect(database.engine).get_indexes("task_runs")}


def _columns(database: Database) -> set[str]:
    return {column["name"] for column in inspect(database.engine).get_columns("task_runs")}


def upgrade_alone(url: str) -> None:
    """In a process of its own: Alembic keeps its context in the module, so threads cannot share it."""
    subprocess.run([sys.executable, "-c", f"from app.db.migrate import upgrade; upgrade({url!r})"], check=True)


def _emptied(url: str) -> None:
    database = Database(url)
    with database.transaction() as session:
        session.execute(text("DROP SCHEMA public CASCADE"))
        session.execute(text("CREATE SCHEMA public"))
    database.close()
