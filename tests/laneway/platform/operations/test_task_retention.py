"""Finished tasks are kept as long as the settings say for their state and their queue."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from celery.exceptions import DuplicateTaskNameWarning
from sqlalchemy import select

from laneway import task
from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.errors import ConfigError
from laneway.platform.operations.retention import Retention
from laneway.platform.registry import registry
from laneway.platform.settings import StorageSettings, TaskRetentionSettings, TaskSettings

NOW = datetime(2026, 6, 1, tzinfo=UTC)
QUEUES, STATES, AGES = ("crm", "analytics", "documents"), ("completed", "failed", "dead_letter"), (5, 20, 40, 100, 400)


def retention(database: Database, *, by_state: str = "", by_queue: str = "", by_name: str = "") -> Retention:
    own = {"RETENTION_DAYS_BY_STATE": by_state, "RETENTION_DAYS_BY_QUEUE": by_queue, "RETENTION_DAYS_BY_NAME": by_name}
    return Retention(
        database,
        StorageSettings.model_validate({"RETENTION_DAYS_TASKS": 30}),
        TaskSettings(),
        task_retention=TaskRetentionSettings.model_validate(own),
    )


def store_one_of_each(database: Database, *, name: str = "x", prefix: str = "") -> None:
    with database.transaction() as session:
        for queue, state, age in [*product(QUEUES, STATES, AGES), ("crm", "pending", 400)]:
            finished = None if state == "pending" else NOW - timedelta(days=age)
            session.add(
                TaskRun(
                    id=f"{prefix}{queue} {state} {age}", name=name, queue=queue, priority=1, payload={}, fingerprint="",
                    state=state, max_retries=0, accepted_at=NOW - timedelta(days=age), finished_at=finished,
                )
            )  # fmt: skip


@pytest.fixture
def names() -> Iterator[tuple[str, str]]:
    """The name of a task, and the name that it had earlier."""

    def kept_long() -> None:
        """Do nothing."""

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DuplicateTaskNameWarning)  # that of another test with this fixture
        task(queue="maintenance", name="kept_long", aliases=["kept_before"])(kept_long)
    yield "kept_long", "kept_before"
    registry.remove("kept_long")


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


def test_a_name_goes_before_the_queue(platform_database: Database, names: tuple[str, str]) -> None:
    named, earlier = names
    store_one_of_each(platform_database)
    store_one_of_each(platform_database, name=named, prefix="named ")
    store_one_of_each(platform_database, name=earlier, prefix="earlier ")
    sweeper = retention(
        platform_database,
        by_state="dead_letter=365",
        by_queue="analytics=60,crm/failed=60",
        by_name=f"{named}=10,{named}/failed=200",
    )

    plan = sweeper.preview(now=NOW)
    counts = sweeper.sweep(now=NOW, batch=3)

    expected = {f"{prefix}crm pending 400" for prefix in ("", "named ", "earlier ")}
    for queue, state, days in (
        *(("crm", "completed", 30), ("crm", "failed", 60), ("crm", "dead_letter", 365)),
        *(("analytics", "completed", 60), ("analytics", "failed", 60), ("analytics", "dead_letter", 60)),
        *(("documents", "completed", 30), ("documents", "failed", 30), ("documents", "dead_letter", 365)),
    ):
        expected |= kept(queue, state, days)
    for prefix, queue, (state, days) in product(
        ("named ", "earlier "), QUEUES, (("completed", 10), ("failed", 200), ("dead_letter", 10))
    ):
        expected |= {prefix + id for id in kept(queue, state, days)}
    assert left(platform_database) == expected
    assert counts["tasks"] == sum(rule.expired for rule in plan.tasks) == 3 * 46 - len(expected)
    rules = {(rule.state, rule.queue, rule.name): (rule.days, rule.setting, rule.expired) for rule in plan.tasks}
    assert rules["failed", None, named] == (200, f"RETENTION_DAYS_BY_NAME: {named}/failed=200", 6)
    assert rules["failed", "crm", None] == (60, "RETENTION_DAYS_BY_QUEUE: crm/failed=60", 2)
    assert rules["completed", None, None] == (30, "RETENTION_DAYS_TASKS=30", 6)
    assert ("sessions", 30) in [(rule.kind, rule.days) for rule in plan.others]


def test_a_preview_deletes_nothing(platform_database: Database) -> None:
    store_one_of_each(platform_database)
    plan = retention(platform_database).preview(now=NOW, task_hours=24 * 10)

    assert [(rule.days, rule.expired, rule.state) for rule in plan.tasks] == [(10, 36, None)]
    assert len(left(platform_database)) == 46


def test_the_hours_of_an_operator_replace_all_of_them(platform_database: Database) -> None:
    store_one_of_each(platform_database)
    retention(platform_database, by_state="failed=365", by_queue="crm=365").sweep(now=NOW, task_hours=24 * 10)

    assert left(platform_database) == {"crm pending 400"} | {
        f"{queue} {state} 5" for queue, state in product(QUEUES, STATES)
    }


def test_days_of_a_task_that_does_not_exist_are_refused(platform_database: Database, names: tuple[str, str]) -> None:
    named, earlier = names
    with pytest.raises(ConfigError, match=f"RETENTION_DAYS_BY_NAME names no task with 'kept_lon'.*{named}"):
        retention(platform_database, by_name="kept_lon/failed=7")
    with pytest.raises(ConfigError, match=f"'{earlier}' is an earlier name of '{named}'"):
        retention(platform_database, by_name=f"{named}=7,{earlier}=8")


def test_days_of_a_queue_that_does_not_exist_are_refused(platform_database: Database) -> None:
    with pytest.raises(ConfigError, match=r"RETENTION_DAYS_BY_QUEUE names no queue with 'anaytics'.*analytics"):
        retention(platform_database, by_queue="anaytics=7")
