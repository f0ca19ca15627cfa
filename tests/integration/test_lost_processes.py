"""Attempts that ended without settling themselves: dead processes, kills from outside, tasks from another door."""

from __future__ import annotations

from typing import Any

import pytest

from app.core import catalog
from app.core.errors import BrokerUnavailable, TimeLimitExceeded, WorkerLost
from app.db.models import TaskRun
from app.schemas.task import State
from app.services.executions import Raised
from app.services.task_manager import adopted_row
from laneway import State as Place
from tests.fixtures.platform import MovableClock, Platform

# --- processes that died, kills from outside, tasks from outside ---------------------------------------------


def test_a_lost_process_is_settled_by_its_worker_and_its_task_is_sent_at_once(platform: Platform) -> None:
    id = platform.message()
    delivery = platform.fetched()
    platform.start(id, worker="worker-1")

    platform.executions.settle_lost(id, WorkerLost("worker-1"), worker="worker-1")

    row = platform.row(id)
    assert (row.state, row.error_type) == ("scheduled", "WorkerLost")
    platform.engine.ack([delivery])
    assert platform.places() == {id: Place.READY}


def test_a_process_that_is_lost_a_second_time_is_waited_for(platform: Platform) -> None:
    """It may be the task's own doing."""
    id = platform.tasks.submit(catalog.SEND_WEBHOOK, {"url": "https://example.com/", "event": "e", "data": {}}).task_id
    delays = list[float]()
    for _ in range(2):
        delivery = platform.fetched("webhooks")
        platform.start(id, worker="worker-1")
        platform.executions.settle_lost(id, TimeLimitExceeded(9), worker="worker-1")
        platform.engine.ack([delivery])
        row = platform.row(id)
        assert row.due_at is not None
        assert row.published_at is not None
        delays.append((row.due_at - row.published_at).total_seconds())

    assert delays[0] == 0 < delays[1]


@pytest.mark.parametrize("case", ["another worker", "finished", "unknown"])
def test_a_lost_process_of_somebody_else_changes_nothing(platform: Platform, case: str) -> None:
    run = platform.start(platform.chore(), worker="worker-1")
    if case == "finished":
        platform.end(run)
    before = vars_of(platform.row(run.id))

    worker = "worker-2" if case == "another worker" else "worker-1"
    platform.executions.settle_lost("nobody" if case == "unknown" else run.id, WorkerLost(worker), worker=worker)

    assert vars_of(platform.row(run.id)) == before


def test_a_lost_process_of_a_cancelled_task_is_a_cancelled_task(platform: Platform) -> None:
    run = platform.start(platform.chore(), worker="worker-1")
    platform.tasks.cancel(run.id)

    platform.executions.settle_lost(run.id, WorkerLost("worker-1"), worker="worker-1")

    assert platform.state(run.id) == State.CANCELLED


def test_a_task_killed_from_outside_is_cancelled_and_its_key_goes_on(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    delivery = platform.fetched()
    platform.start(first, worker="worker-1")

    platform.executions.settle_terminated(first, worker="worker-1")

    assert platform.state(first) == State.CANCELLED
    platform.engine.ack([delivery])  # as Celery does with what was revoked
    assert platform.places() == {second: Place.READY}


def test_a_task_killed_from_outside_at_another_worker_runs_on(platform: Platform) -> None:
    run = platform.start(platform.message(), worker="worker-1")

    platform.executions.settle_terminated(run.id, worker="worker-2")

    assert platform.end(run) is State.COMPLETED


def test_a_waiting_task_revoked_from_outside_is_cancelled_and_not_run(platform: Platform) -> None:
    first, second = platform.message(), platform.message()

    platform.executions.settle_terminated(first, worker="worker-1")

    assert platform.state(first) == State.CANCELLED
    assert [platform.work(), platform.work()] == [None, second]


def test_a_task_from_another_door_is_adopted_once(platform: Platform) -> None:
    values = adopted_row(catalog.CLEANUP, {}, "from-beat", platform.settings.tasks)
    assert not platform.executions.known("from-beat")

    platform.executions.adopt(values)
    platform.executions.adopt(values)

    assert platform.executions.known("from-beat")
    assert [row.id for row in platform.rows()] == ["from-beat"]
    assert platform.end(platform.start("from-beat")) is State.COMPLETED


def test_an_outcome_stands_even_if_the_broker_is_away(platform: Platform, movable_clock: MovableClock) -> None:
    done, failed = (platform.start(platform.message(f"c-{number}")) for number in range(2))
    platform.valkey.stop()
    with pytest.raises(BrokerUnavailable):
        platform.broker.ping()

    assert platform.end(done) is State.COMPLETED
    assert platform.end(failed, Raised(OSError("away"))) is State.SCHEDULED

    platform.valkey.start()
    platform.lose("conversations")
    movable_clock.forward(60)
    assert platform.steward().reconcile() == 1
    assert list(platform.places()) == [failed.id]


def vars_of(row: TaskRun) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}
