"""Attempts that ended without settling themselves: dead processes, kills from outside, tasks from another door."""

from __future__ import annotations

from typing import Any

import pytest

from app.core import catalog
from app.core.errors import (
    BrokerUnavailable,
    WorkerLost,
)
from app.db.models import TaskRun
from app.schemas.task import State
from app.services.task_manager import adopted_row
from tests.fixtures.platform import MovableClock, Platform

# --- processes that died, kills from outside, tasks from outside ---------------------------------------------


def test_a_lost_process_is_settled_by_its_worker(platform: Platform) -> None:
    run = platform.start(platform.chore(), worker="worker-1")

    platform.executions.settle_lost(run.id, WorkerLost("worker-1"), worker="worker-1")

    row = platform.row(run.id)
    assert (row.state, row.error_type) == ("scheduled", "WorkerLost")


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
    platform.start(first, worker="worker-1")
    platform.refusal(second)
    platform.lose("conversations")

    platform.executions.settle_terminated(first, worker="worker-1")

    assert platform.state(first) == State.CANCELLED
    assert platform.sent() == [second]


def test_a_waiting_task_revoked_from_outside_is_cancelled_and_its_key_goes_on(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    platform.refusal(second)
    platform.lose("conversations")

    platform.executions.settle_terminated(first, worker="worker-1")

    assert platform.state(first) == State.CANCELLED
    assert platform.sent() == [second]


def test_a_task_from_another_door_is_adopted_once(platform: Platform) -> None:
    values = adopted_row(catalog.CLEANUP, {}, "from-beat", platform.settings.tasks)
    assert not platform.executions.known("from-beat")

    platform.executions.adopt(values)
    platform.executions.adopt(values)

    assert platform.executions.known("from-beat")
    assert [row.id for row in platform.rows()] == ["from-beat"]
    assert platform.end(platform.start("from-beat")) is State.COMPLETED


def test_an_outcome_stands_even_if_the_broker_is_away(platform: Platform, movable_clock: MovableClock) -> None:
    first, second = platform.message(), platform.message()
    run = platform.start(first)
    platform.refusal(second)
    platform.lose("conversations")
    platform.valkey.stop()

    assert platform.end(run) is State.COMPLETED
    with pytest.raises(BrokerUnavailable):
        platform.broker.ping()

    platform.valkey.start()
    movable_clock.forward(60)
    platform.steward().send_lost()
    assert platform.sent() == [second]


def vars_of(row: TaskRun) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}
