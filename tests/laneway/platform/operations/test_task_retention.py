"""Finished tasks are kept as long as the settings say for their state and their queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from sqlalchemy import select

from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.errors import ConfigError
from laneway.platform.operations.retention import Retention
from laneway.platform.settings import StorageSettings, TaskRetentionSettings, TaskSettings

NOW = datetime(2026, 6, 1, tzinfo=UTC)
QUEUES, STATES, AGES = ("crm", "analytics", "documents"), ("completed", "failed", "dead_letter"), (5, 20, 40, 100, 400)


def retention(database: Database, *, by_state: str = "", by_queue: str = "") -> Retention:
    own = {"RETENTION_DAYS_BY_STATE": by_state, "RETENTION_DAYS_BY_QUEUE": by_queue}
    return Retention(
        database,
        StorageSettings.model_validate({"RETENTION_DAYS_TASKS": 30}),
        TaskSettings(),
        task_retention=TaskRetentionSettings.model_validate(own),
    )


def store_one_of_each(database: Database) -> None:
    with database.transaction() as session:
        for queue, state, age in [*product(QUEUES, STATES, AGES), ("crm", "pending", 400)]:
            finished = None if state == "pending" else NOW - timedelta(days=age)
            session.add(
                TaskRun(
                    id=f"{queue} {state} {age}", name="x", queue=queue, priority=1, payload={}, fingerprint="",
                    state=state, max_retries=0, accepted_at=NOW - timedelta(days=age), finished_at=finished,
                )
            )  # fmt: skip


def left(database: Database) -> set[str]:
    with database.reading() as session:
        return set(session.scalars(select(TaskRun.id)))


def kept(queue: str, state: str, days: int) -> set[str]:
    return {f"{queue} {state} {age}" for age in AGES if age <= days}


def test_queue_and_state_then_queue_then_state(platform_database: Database) -> None:
    store_one_of_each(platform_database)
    sweeper = retention(
        platform_database, by_state="failed=90,dead_letter=365", by_queue="analytics=7,analytics/failed=60,crm/failed=2"
    )

    counts = sweeper.sweep(now=NOW, batch=2)

    expected = {"crm pending 400"}
    for queue, state, days in (
        *(("crm", "completed", 30), ("crm", "failed", 2), ("crm", "dead_letter", 365)),
        *(("analytics", "completed", 7), ("analytics", "failed", 60), ("analytics", "dead_letter", 7)),
        *(("documents", "completed", 30), ("documents", "failed", 90), ("documents", "dead_letter", 365)),
    ):
        expected |= kept(queue, state, days)
    assert left(platform_database) == expected
    assert counts["tasks"] == 46 - len(expected)


def test_the_hours_of_an_operator_replace_all_of_them(platform_database: Database) -> None:
    store_one_of_each(platform_database)
    retention(platform_database, by_state="failed=365", by_queue="crm=365").sweep(now=NOW, task_hours=24 * 10)

    assert left(platform_database) == {"crm pending 400"} | {
        f"{queue} {state} 5" for queue, state in product(QUEUES, STATES)
    }


def test_days_of_a_queue_that_does_not_exist_are_refused(platform_database: Database) -> None:
    with pytest.raises(ConfigError, match=r"RETENTION_DAYS_BY_QUEUE names no queue with 'anaytics'.*analytics"):
        retention(platform_database, by_queue="anaytics=7")
