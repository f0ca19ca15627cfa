"""The `on_failure` task is submitted once for each end of a task that was not completed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.execution.outcomes import Completed, Raised
from laneway.platform.registry import registry
from laneway.schemas.payload import EmptyPayload, EndedTask
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.registry import register_spec

FOLLOW_UP = replace(registry["health_sweep_task"], name="test_follow_up_task", payload=EndedTask, own_queue="analytics")
WATCHED = replace(
    registry["cleanup_old_data_task"],
    name="test_watched_task",
    payload=EmptyPayload,
    on_failure=FOLLOW_UP.name,
    max_retries=1,
)


@pytest.fixture(autouse=True)
def registered_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a task, and the task that it names as its `on_failure`."""
    for spec in (FOLLOW_UP, WATCHED):
        register_spec(monkeypatch, spec)


def submit(platform: Platform) -> str:
    """Submit a task that names an `on_failure` task."""
    return platform.tasks.submit(WATCHED, {}, id="watched").task_id


def follow_ups(platform: Platform) -> list[dict[str, Any]]:
    """The payloads of the `on_failure` tasks, all of which are with the broker."""
    platform.recorder.catch_up()
    platform.tasks.outbox.relay()
    runs = [row for row in platform.rows() if row.name == FOLLOW_UP.name]
    assert {row.id for row in runs} == set(platform.places("analytics"))
    return [row.payload for row in runs]


def fail(platform: Platform) -> None:
    platform.end(platform.start("maintenance"), Raised(ValueError("wrong")))


def use_up_the_retries(platform: Platform) -> None:
    for _ in range(2):
        assert platform.work("maintenance", Raised(OSError("away")), schedule=(0.0,)) == "watched"


def cancel(platform: Platform) -> None:
    platform.tasks.cancel("watched")


def cancel_before_it_is_sent(platform: Platform) -> None:
    with platform.database.transaction() as session:
        session.execute(update(TaskRun).values(state=TaskState.ACCEPTED, published_at=None))
    platform.lose("maintenance")
    platform.tasks.cancel("watched")


def cancel_what_the_broker_lost(platform: Platform) -> None:
    with platform.database.transaction() as session:
        session.execute(update(TaskRun).values(cancel_requested=True, published_at=clock.now() - timedelta(minutes=1)))
    platform.lose("maintenance")
    platform.broker.prepare()
    platform.maintenance().reconcile()


def bury(platform: Platform) -> None:
    delivery = platform.fetch("maintenance")
    assert delivery is not None
    platform.engine.bury([delivery], reason="unregistered", error="no such task")


def purge(platform: Platform) -> None:
    platform.tasks.flush("maintenance")


ENDINGS = [fail, use_up_the_retries, cancel, cancel_before_it_is_sent, cancel_what_the_broker_lost, bury, purge]


def ending_name(ending: Callable[[Platform], None]) -> str:
    return ending.__name__


@pytest.mark.parametrize("ending", ENDINGS, ids=ending_name)
def test_each_way_to_end_submits_one_task(platform: Platform, ending: Callable[[Platform], None]) -> None:
    submit(platform)

    ending(platform)

    (payload,) = follow_ups(platform)
    assert payload["task_id"] == "watched"
    assert follow_ups(platform) == [payload]


def test_a_completed_task_submits_none(platform: Platform) -> None:
    submit(platform)

    platform.end(platform.start("maintenance"), Completed({}))

    assert follow_ups(platform) == []


def test_a_task_that_fails_again_after_a_retry_by_hand_submits_another_one(platform: Platform) -> None:
    submit(platform)
    fail(platform)
    first = follow_ups(platform)
    platform.tasks.retry("watched")
    fail(platform)

    assert len(first) == 1
    assert [payload["run"] for payload in follow_ups(platform)] == [1, 2]


def test_a_task_that_was_sent_past_the_platform_submits_one_too(platform: Platform) -> None:
    platform.broker.prepare()
    platform.app.send_task(WATCHED.name, task_id="watched", queue="maintenance")
    fail(platform)

    assert [payload["task_id"] for payload in follow_ups(platform)] == ["watched"]
