"""Cancel and retry by hand, in every state a task can be in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from laneway.engine import EventKind, MessageState
from laneway.platform.errors import BrokerUnavailable, UnknownTask, WrongState
from laneway.platform.execution.outcomes import Attempt, AttemptSignal, Completed, Raised, Skip
from laneway.schemas.task import FINISHED, TaskHandle, TaskState
from tests.fixtures.platform import MovableClock, Platform

# --- cancel -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [MessageState.READY, MessageState.SCHEDULED, MessageState.HELD])
def test_a_waiting_task_that_is_cancelled_never_runs_and_its_message_is_gone(
    platform: Platform, state: MessageState
) -> None:
    first = platform.message() if state is MessageState.HELD else None
    id = platform.message(delay=60 if state is MessageState.SCHEDULED else 0)
    assert platform.places()[id] is state

    answer = platform.tasks.cancel(id)

    assert (answer.status, answer.cancelled) == (TaskState.CANCELLED, True)
    row = platform.row(id)
    assert row.finished_at is not None
    assert row.due_at is None
    assert platform.places() == ({first: MessageState.READY} if first else {})


@pytest.mark.parametrize("delay", [0, 60], ids=["ready", "delayed"])
def test_when_the_first_task_of_a_key_is_cancelled_the_next_is_ready_at_once(platform: Platform, delay: float) -> None:
    first, second, third = platform.message(delay=delay), platform.message(), platform.message()
    assert platform.places() == {
        first: MessageState.SCHEDULED if delay else MessageState.READY,
        second: MessageState.HELD,
        third: MessageState.HELD,
    }

    platform.tasks.cancel(first)
    assert platform.places() == {second: MessageState.READY, third: MessageState.HELD}
    platform.tasks.cancel(second)
    assert platform.work() == third
    assert platform.places() == {}


def test_a_cancel_of_a_task_that_waits_for_its_retry_removes_its_message(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    assert platform.work(outcome=Raised(OSError("away")), schedule=(60.0,)) == first
    assert platform.places() == {first: MessageState.SCHEDULED, second: MessageState.HELD}

    assert platform.tasks.cancel(first).cancelled

    assert platform.places() == {second: MessageState.READY}


def test_a_cancel_of_a_running_task_leaves_its_message_to_the_worker(platform: Platform) -> None:
    id, behind = platform.message(), platform.message()
    attempt = platform.start()

    assert not platform.tasks.cancel(id).cancelled

    assert platform.places() == {id: MessageState.LEASED, behind: MessageState.HELD}
    assert platform.end(attempt, Completed({}))
    assert platform.state(id) == TaskState.COMPLETED
    assert platform.places() == {behind: MessageState.READY}


def test_a_cancel_between_delivery_and_start_is_kept(platform: Platform) -> None:
    """A worker has the message, but has not started the task."""
    id, behind = platform.message(), platform.message()
    delivery = platform.fetched()

    assert not platform.tasks.cancel(id).cancelled
    assert platform.tasks.status(id).cancel_requested

    assert platform.begun(delivery) == Skip("it was cancelled")
    platform.engine.ack([delivery])
    assert platform.state(id) == TaskState.CANCELLED
    assert platform.row(id).attempts == 0
    assert platform.places() == {behind: MessageState.READY}


def test_a_cancel_while_the_broker_is_away_is_refused_and_the_task_stays(platform: Platform) -> None:
    id = platform.message()
    platform.valkey.stop()

    with pytest.raises(BrokerUnavailable):
        platform.tasks.cancel(id)

    platform.valkey.start()
    assert platform.state(id) == TaskState.PENDING
    assert platform.tasks.cancel(id).cancelled
    assert (platform.state(id), platform.sent()) == (TaskState.CANCELLED, [])


def test_a_task_whose_message_is_lost_can_be_cancelled(platform: Platform) -> None:
    id = platform.message()
    platform.lose("conversations")

    assert platform.tasks.cancel(id).cancelled

    assert platform.state(id) == TaskState.CANCELLED


def test_a_running_task_that_is_cancelled_is_asked_to_stop(platform: Platform) -> None:
    platform.message()
    attempt = platform.start()

    answer = platform.tasks.cancel(attempt.task_id)

    assert (answer.status, answer.cancelled) == (TaskState.PROCESSING, False)
    assert platform.tasks.status(attempt.task_id).cancel_requested
    assert (
        platform.attempts.report(attempt, EventKind.PROGRESS, {"percent": 40, "message": "half"})
        is AttemptSignal.CANCEL
    )
    assert platform.attempts.check_cancelled([attempt]) == [AttemptSignal.CANCEL]


def test_a_second_cancel_of_a_running_task_changes_nothing(platform: Platform) -> None:
    id = platform.message()
    platform.start()

    first, second = platform.tasks.cancel(id), platform.tasks.cancel(id)

    assert first == second
    assert platform.tasks.status(id).cancel_requested


def test_a_task_that_was_asked_to_stop_and_fails_is_cancelled_and_not_retried(platform: Platform) -> None:
    id = platform.message()
    attempt = platform.start()
    platform.tasks.cancel(id)
    attempt.cancel_requested = True  # as the cancellation watchdog notices

    platform.end(attempt, Raised(OSError("gone")))

    row = platform.row(id)
    assert (row.state, row.attempts, row.error) == (TaskState.CANCELLED, 1, "gone")
    assert platform.places() == {}


def test_a_task_that_was_asked_to_stop_too_late_is_completed(platform: Platform) -> None:
    id = platform.message()
    attempt = platform.start()
    platform.tasks.cancel(id)

    platform.end(attempt, Completed(None))

    assert platform.state(id) == TaskState.COMPLETED


@pytest.mark.parametrize("state", FINISHED)
def test_a_finished_task_cannot_be_cancelled(platform: Platform, state: TaskState) -> None:
    id = platform.brought_to(state)

    with pytest.raises(WrongState, match=f"is {state}; it cannot be cancelled"):
        platform.tasks.cancel(id)

    assert platform.state(id) == state


def test_cancelling_an_unknown_task_is_an_error(platform: Platform) -> None:
    with pytest.raises(UnknownTask):
        platform.tasks.cancel("unknown")


def test_cancelling_while_a_worker_begins_ends_one_way_or_the_other(platform: Platform) -> None:
    """Either the task runs and is asked to stop, or it does not run."""
    for round in range(20):
        id = platform.chore()
        delivery = platform.fetched("maintenance")
        together = Barrier(2)

        def cancel(id: str = id, together: Barrier = together) -> bool:
            together.wait(10)
            return platform.tasks.cancel(id).cancelled

        with ThreadPoolExecutor(1) as pool:
            cancelled = pool.submit(cancel)
            together.wait(10)
            begun = platform.begun(delivery)
            assert not cancelled.result(10), "a worker has the message"

        if isinstance(begun, Attempt):
            assert platform.state(id) == TaskState.PROCESSING, f"round {round}"
            assert platform.attempts.check_cancelled([begun]) == [AttemptSignal.CANCEL]
        else:
            assert begun == Skip("it was cancelled")
        platform.engine.ack([delivery])
        assert platform.state(id) == TaskState.CANCELLED, f"round {round}"


def test_cancelling_while_a_worker_fetches_ends_one_way_or_the_other(platform: Platform) -> None:
    for round in range(20):
        id = platform.chore()
        together = Barrier(2)

        def cancel(id: str = id, together: Barrier = together) -> bool:
            together.wait(10)
            return platform.tasks.cancel(id).cancelled

        with ThreadPoolExecutor(1) as pool:
            cancelled = pool.submit(cancel)
            together.wait(10)
            delivery = platform.fetch("maintenance")
            gone = cancelled.result(10)

        assert gone is (delivery is None), f"round {round}"
        assert (platform.state(id) == TaskState.CANCELLED) is gone
        if delivery is not None:
            platform.engine.ack([delivery])


# --- retry by hand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", FINISHED)
def test_a_finished_task_can_be_retried_under_its_id(platform: Platform, state: TaskState) -> None:
    id = platform.brought_to(state)
    before = platform.row(id)

    handle = platform.tasks.retry(id)

    row = platform.row(id)
    assert handle == TaskHandle(task_id=id, state=TaskState.PENDING, created=True)
    assert (row.state, row.attempts, row.progress, row.cancel_requested) == ("pending", 0, 0, False)
    assert row.attempts_before == before.attempts, "attempts are numbered on"
    assert (row.error, row.error_type, row.traceback, row.result, row.finished_at, row.worker) == (None,) * 6
    assert platform.sent() == [id]
    assert platform.work() == id
    assert (platform.state(id), platform.tasks.status(id).attempts) == (TaskState.COMPLETED, before.attempts + 1)


@pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.SCHEDULED, TaskState.PROCESSING])
def test_an_unfinished_task_cannot_be_retried(platform: Platform, state: TaskState) -> None:
    id = platform.brought_to(state)

    with pytest.raises(WrongState, match=f"is {state}; it cannot be retried"):
        platform.tasks.retry(id)

    assert platform.state(id) == state


def test_retrying_an_unknown_task_is_an_error(platform: Platform) -> None:
    with pytest.raises(UnknownTask):
        platform.tasks.retry("unknown")


def test_of_several_retries_of_one_task_at_once_one_succeeds(platform: Platform) -> None:
    id = platform.brought_to(TaskState.DEAD_LETTER)
    together = Barrier(6)

    def retry(_: int) -> bool:
        together.wait(10)
        try:
            return platform.tasks.retry(id).created
        except WrongState:
            return False

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(retry, range(6)))

    assert sum(done) == 1
    assert platform.sent() == [id]


def test_a_retry_while_the_broker_is_away_is_accepted_and_sent_later(
    platform: Platform, movable_clock: MovableClock
) -> None:
    id = platform.brought_to(TaskState.FAILED)
    platform.valkey.stop()

    assert platform.tasks.retry(id).created
    platform.valkey.start()
    platform.lose("conversations")
    movable_clock.forward(60)
    assert platform.maintenance().reconcile() == 1
    assert platform.sent() == [id]


def test_a_task_whose_message_is_a_dead_letter_can_be_retried(platform: Platform) -> None:
    id, behind = platform.message(), platform.message()
    platform.engine.bury([platform.fetched()], reason="poison", error="killed its worker")
    row = platform.row(id)
    assert (row.state, row.error_type) == (TaskState.DEAD_LETTER, "Undeliverable")
    assert "poison" in str(row.error)
    assert "killed its worker" in str(row.error)

    assert platform.tasks.retry(id).created

    assert platform.places() == {behind: MessageState.READY, id: MessageState.HELD}, (
        "a dead letter has left the order of its key"
    )
    assert [platform.work() for _ in range(3)] == [behind, id, None]
    assert platform.row(id).error is None


def test_a_retry_of_a_buried_task_while_the_broker_is_away_is_sent_later(
    platform: Platform, movable_clock: MovableClock
) -> None:
    id = platform.chore()
    platform.engine.bury([platform.fetched("maintenance")], reason="poison")
    assert platform.state(id) == TaskState.DEAD_LETTER
    platform.valkey.stop()
    assert platform.tasks.retry(id).created
    platform.valkey.start()
    assert platform.places("maintenance") == {id: MessageState.DEAD}, "what is buried is still there"

    movable_clock.forward(60)
    platform.maintenance().reconcile()

    assert platform.state(id) == TaskState.PENDING
    assert platform.work("maintenance") == id


def test_a_retried_task_does_not_keep_its_first_result(platform: Platform) -> None:
    id = platform.brought_to(TaskState.COMPLETED)
    platform.app.backend.store_result(id, {"first": True}, "SUCCESS")

    platform.tasks.retry(id)

    assert platform.app.AsyncResult(id).state == "PENDING"
