"""The metrics are read from what all processes share, with a bounded effort."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, update

from app.core.queues import QUEUES
from laneway.platform import clock
from laneway.platform.db.models import TaskRun, Worker
from laneway.platform.db.queries.workers import ALIVE
from laneway.platform.metrics import metrics as module
from laneway.platform.metrics.metrics import Metrics
from laneway.platform.metrics.readings import QueueReading
from laneway.schemas.task import TaskState
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

QUEUE = "conversations"


@pytest.fixture
def metrics(platform: Platform) -> Metrics:
    """The metrics of the test's platform."""
    platform.broker.prepare()
    return Metrics(platform.database, platform.broker)


def queue(metrics: Metrics, name: str = QUEUE) -> QueueReading:
    """The figures of one queue."""
    broker = metrics.read().broker
    assert broker is not None
    return next(each for each in broker.queues if each.queue == name)


def test_a_queue_is_shown_by_state(platform: Platform, metrics: Metrics) -> None:
    for conversation in ("c-1", "c-1", "c-2", "c-3"):
        platform.message(conversation)
    platform.message("c-4", delay=60)
    platform.start()
    platform.engine.pause(QUEUE)

    found = queue(metrics)

    states = {"waiting": 2, "held": 1, "limited": 0, "running": 1, "scheduled": 1, "set_aside": 0}
    assert (found.tasks, found.paused, found.lane) == (states, True, QUEUES[QUEUE])
    assert found.totals["put"] == 5 and found.totals["delivered"] == 1
    assert 0 < found.oldest_seconds < 30
    assert found.unread == 6 and 0 < found.recorder_lag_seconds < 30
    platform.recorder.catch_up()
    assert (queue(metrics).unread, queue(metrics).recorder_lag_seconds) == (0, 0)


def test_a_lost_lease_is_counted(platform: Platform, metrics: Metrics) -> None:
    platform.chore()
    platform.fetched("maintenance", lease=0.05)
    wait_until(lambda: platform.fetch("maintenance"), seconds=10)

    assert queue(metrics, "maintenance").totals["expired"] == 1


def test_the_flow_of_a_queue_is_what_came_in_and_what_left(platform: Platform, metrics: Metrics) -> None:
    before = metrics.flows()[QUEUE]
    for number in range(4):
        platform.message(f"c-{number}")
    platform.work()
    platform.tasks.cancel(platform.message("c-9"))
    after = metrics.flows([QUEUE])[QUEUE]

    assert (after.entered - before.entered, after.left - before.left) == (5, 2)
    assert after.at > before.at


def test_the_outbox_and_dead_letters_are_counted_up_to_a_limit(
    platform: Platform, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        platform.brought_to(TaskState.DEAD_LETTER, conversation=f"d-{number}")
    parked = [platform.brought_to(TaskState.ACCEPTED, conversation=f"o-{number}") for number in range(3)]
    with platform.database.transaction() as session:
        old = clock.now() - timedelta(seconds=100)
        session.execute(update(TaskRun).where(TaskRun.id == parked[1]).values(accepted_at=old))

    found = metrics.read().database
    assert found is not None
    assert (found.outbox, found.dead[QUEUE]) == ({QUEUE: 3}, 4)
    assert 100 <= found.outbox_oldest_seconds < 130

    monkeypatch.setattr(module, "COUNTED", 2)
    found = metrics.read().database
    assert found is not None
    assert (found.outbox, found.dead[QUEUE]) == ({QUEUE: 2}, 2)


def test_live_and_silent_workers_are_told_apart(
    platform: Platform, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("w1@a", "w2@a", "w3@a"):
        platform.alive(name)
    with platform.database.transaction() as session:
        session.execute(update(Worker).where(Worker.name == "w2@a").values(seen_at=clock.now() - 2 * ALIVE))

    found = metrics.read().database
    assert found is not None
    assert (found.workers, found.live_workers) == ({"w1@a": True, "w2@a": False, "w3@a": True}, 2)
    assert found.serving[QUEUE] == 2

    monkeypatch.setattr(module, "MAX_WORKERS", 2)
    found = metrics.read().database
    assert found is not None
    assert (found.workers, found.live_workers) == ({"w1@a": True, "w3@a": True}, 2), "the live ones come first"


def test_what_does_not_answer_is_missing_and_the_rest_is_there(platform: Platform, metrics: Metrics) -> None:
    with platform.without_database():
        assert metrics.read().database is None
        assert metrics.read().broker is not None
    platform.valkey.stop()
    try:
        found = metrics.read()
        assert found.broker is None and found.database is not None
    finally:
        platform.valkey.start()


@ONE_DATABASE
def test_the_number_of_statements_does_not_grow_with_the_tasks(platform: Platform, metrics: Metrics) -> None:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(platform.database.engine, "before_cursor_execute", note)
    try:
        metrics.read()
        few = len(statements)
        for number in range(30):
            platform.message(f"c-{number}")
        statements.clear()
        metrics.read()
    finally:
        event.remove(platform.database.engine, "before_cursor_execute", note)

    assert len(statements) == few <= 6
