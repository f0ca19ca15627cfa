"""Tasks that end without being completed are looked after by the task that their kind names."""

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
from laneway.platform.payload import EndedTask, Nothing
from laneway.platform.registry import registry
from laneway.platform.schemas.task import TaskState
from tests.fixtures.platform import Platform

AFTER = replace(registry["health_sweep_task"], name="test_after_task", payload=EndedTask, queue="analytics")
WATCHED = replace(
    registry["cleanup_old_data_task"], name="test_watched_task", payload=Nothing, on_failure=AFTER.name, max_retries=1
)


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds of task: one is looked after by the other."""
    for spec in (AFTER, WATCHED):
        monkeypatch.setitem(registry, spec.name, spec)


def submitted(platform: Platform) -> str:
    """A task that is looked after."""
    return platform.tasks.submit(WATCHED, {}, id="watched").task_id


def looked_after(platform: Platform) -> list[dict[str, Any]]:
    """The payloads of the tasks that were submitted for its ends, and are with the broker."""
    platform.recorder.catch_up()
    platform.tasks.outbox.relay()
    runs = [row for row in platform.rows() if row.name == AFTER.name]
    assert {row.id for row in runs} == set(platform.places("analytics"))
    return [row.payload for row in runs]


def fail(platform: Platform) -> None:
    platform.end(platform.start("maintenance"), Raised(ValueError("wrong")))


def die(platform: Platform) -> None:
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


ENDINGS = [fail, die, cancel, cancel_before_it_is_sent, cancel_what_the_broker_lost, bury, purge]


def named(ending: Callable[[Platform], None]) -> str:
    return ending.__name__


@pytest.mark.parametrize("ending", ENDINGS, ids=named)
def test_each_way_to_end_is_looked_after_once(platform: Platform, ending: Callable[[Platform], None]) -> None:
    submitted(platform)

    ending(platform)

    (payload,) = looked_after(platform)
    assert payload["task_id"] == "watched"
    assert looked_after(platform) == [payload]


def test_what_is_completed_needs_nothing(platform: Platform) -> None:
    submitted(platform)

    platform.end(platform.start("maintenance"), Completed({}))

    assert looked_after(platform) == []


def test_a_task_that_is_run_again_and_fails_again_is_looked_after_again(platform: Platform) -> None:
    submitted(platform)
    fail(platform)
    first = looked_after(platform)
    platform.tasks.retry("watched")
    fail(platform)

    assert len(first) == 1
    assert [payload["run"] for payload in looked_after(platform)] == [1, 2]


def test_what_is_sent_past_the_platform_is_looked_after_too(platform: Platform) -> None:
    platform.broker.prepare()
    platform.app.send_task(WATCHED.name, task_id="watched", queue="maintenance")
    fail(platform)

    assert [payload["task_id"] for payload in looked_after(platform)] == ["watched"]
