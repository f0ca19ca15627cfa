"""The ledger against the broker: what it lost is sent again, what it gave up is a dead letter, the rest is left."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from laneway.engine import Message, MessageState
from laneway.platform.db.models import TaskRun
from laneway.platform.execution.outcomes import Attempt, AttemptSignal, Raised
from laneway.platform.operations import maintenance as maintenance_module
from laneway.platform.operations.maintenance import MISSING_AFTER
from laneway.schemas.task import TaskState
from tests.fixtures.journal import attempts
from tests.fixtures.platform import MovableClock, Platform, task_id_of
from tests.fixtures.waiting import wait_until

MAINTENANCE = "maintenance"
LATER = MISSING_AFTER.total_seconds() + 1
"""Seconds after which a task that was sent must be in the broker."""


@pytest.fixture
def compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare tasks with the broker at once after they were sent."""
    monkeypatch.setattr(maintenance_module, "MISSING_AFTER", timedelta(seconds=-1))


# --- messages that the broker lost --------------------------------------------------------------------------


def test_a_lost_message_is_sent_again_after_a_while(platform: Platform, movable_clock: MovableClock) -> None:
    id, maintenance = platform.chore(), platform.maintenance()
    platform.lose(MAINTENANCE)
    movable_clock.forward(LATER - 8)
    assert maintenance.reconcile() == 0, "it may be on its way"
    movable_clock.forward(8)

    assert maintenance.reconcile() == 1

    assert platform.places(MAINTENANCE) == {id: MessageState.READY}
    assert maintenance.reconcile() == 0
    assert platform.work(MAINTENANCE) == id
    assert (platform.state(id), platform.row(id).attempts) == (TaskState.COMPLETED, 1)


def test_a_lost_message_that_is_due_later_is_sent_again_with_the_rest_of_its_delay(
    platform: Platform, movable_clock: MovableClock
) -> None:
    id = platform.chore(delay=60)
    platform.lose(MAINTENANCE)
    movable_clock.forward(20)

    assert platform.maintenance().reconcile() == 1

    (message,) = platform.messages(MAINTENANCE, MessageState.SCHEDULED)
    assert message.at is not None
    assert 38 < message.at / 1000 - time.time() < 41, "forty of the sixty seconds are left"
    assert platform.state(id) == TaskState.SCHEDULED


def test_a_lost_message_whose_time_has_come_is_sent_at_once(platform: Platform, movable_clock: MovableClock) -> None:
    id = platform.chore(delay=30)
    platform.lose(MAINTENANCE)
    movable_clock.forward(60)

    assert platform.maintenance().reconcile() == 1
    assert platform.places(MAINTENANCE) == {id: MessageState.READY}


def test_a_lost_retry_is_sent_again(platform: Platform, movable_clock: MovableClock) -> None:
    id = platform.message()
    platform.work(outcome=Raised(OSError("away")), schedule=(30,))
    platform.recorder.catch_up()
    platform.lose("conversations")
    movable_clock.forward(LATER)

    assert platform.maintenance().reconcile() == 1
    assert platform.places() == {id: MessageState.SCHEDULED}


def test_a_running_task_without_a_message_is_sent_again_and_its_attempt_is_lost(
    platform: Platform, compared_at_once: None
) -> None:
    id = platform.chore()
    old = platform.start(MAINTENANCE, worker="dead-worker")
    platform.recorder.catch_up()
    platform.lose(MAINTENANCE)

    assert platform.maintenance().reconcile() == 1

    assert platform.state(id) == TaskState.PENDING
    assert attempts(platform, id) == [(1, "lost")]
    assert platform.places(MAINTENANCE) == {id: MessageState.READY}, "at once"
    assert platform.attempts.check_cancelled([old]) == [AttemptSignal.LOST], "its worker has no say any more"
    assert platform.work(MAINTENANCE) == id
    assert platform.state(id) == TaskState.COMPLETED
    assert attempts(platform, id) == [(1, "lost"), (2, "completed")]


def test_a_running_task_without_a_message_that_was_cancelled_is_cancelled(
    platform: Platform, compared_at_once: None
) -> None:
    id = platform.chore()
    platform.start(MAINTENANCE)
    platform.tasks.cancel(id)
    platform.lose(MAINTENANCE)

    assert platform.maintenance().reconcile() == 1

    assert platform.state(id) == TaskState.CANCELLED
    assert attempts(platform, id) == [(1, "cancelled")]
    assert platform.places(MAINTENANCE) == {}


def test_the_lost_messages_of_a_key_keep_their_order(platform: Platform, compared_at_once: None) -> None:
    ids = [platform.message("c-1", text=str(number)) for number in range(5)]
    platform.start(worker="dead-worker")
    platform.recorder.catch_up()
    platform.lose("conversations")

    assert platform.maintenance().reconcile() == 5
    assert platform.places() == {ids[0]: MessageState.READY, **dict.fromkeys(ids[1:], MessageState.HELD)}
    assert [platform.work() for _ in ids] == ids


def test_tasks_whose_message_is_in_the_broker_are_left_alone(platform: Platform, compared_at_once: None) -> None:
    over = platform.brought_to(TaskState.COMPLETED, conversation="c-5")
    running, prefetched = platform.message("c-1"), platform.message("c-2")
    leased = [platform.fetched(), platform.fetched()]
    platform.begun(leased[0])
    ready, scheduled = platform.message("c-3"), platform.message("c-4", delay=60)
    behind = [platform.message(f"c-{number}") for number in (1, 2, 3, 4)]
    platform.recorder.catch_up()
    before = [vars_of(row) for row in platform.rows()]
    there = {
        running: MessageState.LEASED,
        prefetched: MessageState.LEASED,
        ready: MessageState.READY,
        scheduled: MessageState.SCHEDULED,
        **dict.fromkeys(behind, MessageState.HELD),
    }
    assert platform.places() == there

    assert [platform.maintenance().reconcile() for _ in range(2)] == [0, 0]

    assert platform.places() == there
    assert over in [row["id"] for row in before]
    assert [vars_of(row) for row in platform.rows()] == before
    assert [task_id_of(delivery) for delivery in leased] == [running, prefetched]


def test_a_task_whose_end_is_not_recorded_yet_is_not_sent_again(platform: Platform, compared_at_once: None) -> None:
    id = platform.chore()
    platform.work(MAINTENANCE)
    assert [row.state for row in platform.rows()] == ["pending"], "as far as the rows know"

    assert platform.maintenance().reconcile() == 0

    assert (platform.state(id), platform.places(MAINTENANCE)) == (TaskState.COMPLETED, {})


def test_only_lost_tasks_are_sent_again(platform: Platform, compared_at_once: None) -> None:
    lost, *ids = [platform.message(f"c-{number}") for number in range(3)]
    platform.lose("conversations")
    for id in ids:
        platform.broker.publish(platform.row(id))

    assert platform.maintenance().reconcile() == 1
    assert platform.sent() == [*ids, lost]


@pytest.mark.parametrize("state", [TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD_LETTER])
def test_a_finished_task_without_a_message_is_left_alone(
    platform: Platform, compared_at_once: None, state: TaskState
) -> None:
    id = platform.brought_to(state)
    platform.lose("conversations")

    assert platform.maintenance().reconcile() == 0
    assert (platform.state(id), platform.places()) == (state, {})


@pytest.mark.parametrize("meanwhile", ["cancelled", "claimed", "sent"])
def test_a_task_that_changed_since_it_was_read_is_not_sent(platform: Platform, meanwhile: str) -> None:
    id = platform.chore()
    seen = platform.row(id)
    platform.lose(MAINTENANCE)
    platform.broker._configured.clear()  # pyright: ignore[reportPrivateUsage]
    if meanwhile == "cancelled":
        platform.tasks.cancel(id)
    elif meanwhile == "claimed":
        platform.broker.prepare()
        platform.broker.publish(seen)
        assert isinstance(platform.begin(MAINTENANCE), Attempt)
        platform.recorder.catch_up()
    else:
        assert platform.tasks.send(platform.row(id))

    assert platform.tasks.send(seen) is False
    assert platform.sent(MAINTENANCE) == ([id] if meanwhile == "sent" else [])


# --- messages that the broker gave up -----------------------------------------------------------------------


@pytest.mark.parametrize("running", [False, True])
def test_a_buried_task_is_not_sent_again_and_its_key_is_free(
    platform: Platform, compared_at_once: None, running: bool
) -> None:
    first, second = platform.message(), platform.message()
    delivery = platform.fetched()
    if running:
        platform.begun(delivery)
    platform.engine.bury([delivery], reason="malformed", error="no such codec")

    assert platform.maintenance().reconcile() == 0

    row = platform.row(first)
    assert (row.state, row.error_type) == ("dead_letter", "Undeliverable")
    assert row.error == "malformed: no such codec"
    assert platform.maintenance().reconcile() == 0
    assert platform.work() == second, "its key went on"


@pytest.mark.parametrize("body_known", [False, True])
def test_a_buried_task_that_only_the_engine_knows_keeps_its_body(
    platform: Platform, compared_at_once: None, body_known: bool
) -> None:
    """The row of a task that the platform has sent has it as the payload."""
    body = b"\0[[], {}, {}]"
    message = Message(task_id="t", name="cleanup_old_data_task", body=body, body_known=body_known)
    platform.broker.prepare()
    platform.engine.put("maintenance", message)
    assert platform.state("t") == "pending"
    platform.engine.bury([platform.fetched("maintenance")], reason="poison")
    platform.engine.runner.call("DEL", platform.engine.keys.key("maintenance", "journal"))

    assert platform.maintenance().reconcile() == 1

    row = platform.row("t")
    assert (row.state, row.error_type, row.raw) == ("dead_letter", "Undeliverable", None if body_known else body)


def test_a_message_that_is_delivered_too_often_becomes_a_dead_letter(
    platform: Platform, compared_at_once: None
) -> None:
    id = platform.chore()
    for _ in range(5):
        wait_until(lambda: platform.fetch(MAINTENANCE, lease=0.001), seconds=5)
    wait_until(lambda: platform.fetch(MAINTENANCE) is None and platform.state(id) == TaskState.DEAD_LETTER, seconds=5)

    assert platform.row(id).attempts == 0
    assert "poison" in (platform.row(id).error or "")


def test_a_buried_task_that_is_retried_by_hand_runs_and_is_not_buried_again(
    platform: Platform, compared_at_once: None
) -> None:
    id, maintenance = platform.chore(), platform.maintenance()
    platform.engine.bury([platform.fetched(MAINTENANCE)], reason="rejected")
    seen = platform.row(id)
    maintenance.reconcile()

    platform.tasks.retry(id)

    assert platform.tasks.send(seen) is False, "a maintenance thread that read the row before"
    assert maintenance.reconcile() == 0
    assert platform.places(MAINTENANCE) == {id: MessageState.READY}
    assert platform.work(MAINTENANCE) == id
    assert platform.state(id) == TaskState.COMPLETED


def vars_of(row: TaskRun) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}
