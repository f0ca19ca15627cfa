"""What each kind of event of the engine does to rows, attempts and events of tasks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from laneway.engine import EventKind
from laneway.platform import clock
from laneway.platform.db.queries import task_events as repository
from laneway.platform.db.queries import workers
from laneway.platform.execution.outcomes import AttemptResult, Completed, Raised, Snoozed, Stopped
from laneway.schemas.task import TaskState
from tests.fixtures.journal import attempts, event_kinds
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.waiting import wait_until

AWAY = Raised(OSError("away"))
NOW = 1_790_000_000_000


def test_a_completed_task_is_recorded_from_its_acceptance_to_its_end(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance", worker="worker-7")
    platform.attempts.report(attempt, EventKind.PROGRESS, {"percent": 40, "message": "sweeping"})
    platform.attempts.report(attempt, EventKind.LOG, {"event": "a line", "level": "info"})
    row = platform.row(id)
    assert (row.state, row.attempts, row.worker) == ("processing", 1, "worker-7")
    assert (row.progress, row.progress_message) == (40, "sweeping")
    assert row.started_at is not None

    platform.end(attempt, Completed({"swept": 3}))

    row = platform.row(id)
    assert (row.state, row.result, row.attempts, row.progress) == ("completed", {"swept": 3}, 1, 100)
    assert row.finished_at is not None
    assert row.started_at is not None
    assert row.accepted_at.timestamp() - 0.002 <= row.started_at.timestamp() <= row.finished_at.timestamp()
    assert attempts(platform, id) == [(1, "completed")]
    assert event_kinds(platform, id) == ["accepted", "put", "begin", "progress", "log", "end"]


def test_events_keep_their_data_and_the_number_of_the_attempt(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    platform.attempts.report(attempt, EventKind.LOG, {"event": "a line", "level": "info"})
    platform.end(attempt, AWAY)
    platform.recorder.catch_up()

    with platform.database.reading() as session:
        recorded = {event.kind: (event.attempt, event.data) for event in repository.events(session, id)}
    assert recorded["log"] == (1, {"event": "a line", "level": "info"})
    assert recorded["begin"] == (1, {"worker": "worker-1"})
    number, data = recorded["end"]
    assert (number, data["state"], data["outcome"], data["error"]) == (1, "scheduled", "retry", "away")
    assert recorded["put"][0] is None


def test_a_retry_is_scheduled_with_the_error_of_the_attempt(platform: Platform) -> None:
    id = platform.chore()
    result = AttemptResult(TaskState.SCHEDULED, delay=60.0, error="away", error_type="OSError", traceback="line 1")
    platform.attempts.finish(platform.start("maintenance"), result)

    row = platform.row(id)
    assert (row.state, row.attempts, row.error, row.error_type, row.traceback) == (
        "scheduled",
        1,
        "away",
        "OSError",
        "line 1",
    )
    assert row.due_at is not None
    assert row.published_at is not None
    assert (row.due_at - row.published_at).total_seconds() == 60
    assert row.finished_at is None
    with platform.database.reading() as session:
        (attempt,) = repository.attempts(session, id)
        assert (attempt.outcome, attempt.error, attempt.delay) == ("retry", "away", 60.0)
        assert attempt.ended_at is not None
        assert attempt.started_at <= attempt.ended_at


def test_a_success_after_a_failure_clears_the_error(platform: Platform) -> None:
    id = platform.chore()
    platform.work("maintenance", AWAY, schedule=(0.0,))
    assert platform.row(id).error == "away"

    platform.work("maintenance")

    row = platform.row(id)
    assert (row.error, row.error_type, row.error_group, row.traceback, row.attempts) == (None, None, None, None, 2)
    assert attempts(platform, id) == [(1, "retry"), (2, "completed")]


def test_a_snoozed_attempt_does_not_count_but_has_a_number(platform: Platform) -> None:
    id = platform.chore()
    for _ in range(3):
        platform.work("maintenance", Snoozed(0, "not yet"))
        assert (platform.state(id), platform.row(id).attempts) == (TaskState.SCHEDULED, 0)

    platform.work("maintenance")

    assert (platform.state(id), platform.row(id).attempts) == (TaskState.COMPLETED, 1)
    assert attempts(platform, id) == [(1, "snoozed"), (2, "snoozed"), (3, "snoozed"), (4, "completed")]


def test_waiting_time_starts_when_the_task_is_due(platform: Platform) -> None:
    id = platform.chore(delay=0.4)
    due = platform.row(id).due_at
    wait_until(lambda: platform.work("maintenance", AWAY, schedule=(0.3,)), seconds=10)
    row = platform.row(id)
    assert due is not None and row.ready_at is not None
    assert abs((row.ready_at - due).total_seconds()) < 0.01

    again = row.due_at
    wait_until(lambda: platform.work("maintenance"), seconds=10)
    assert again is not None
    assert platform.row(id).ready_at == again


def test_waiting_time_starts_again_with_a_retry_by_hand(platform: Platform, movable_clock: MovableClock) -> None:
    id = platform.chore()
    platform.work("maintenance", Raised(ValueError("wrong")))
    assert platform.row(id).ready_at == platform.row(id).accepted_at
    movable_clock.forward(3600)
    platform.tasks.retry(id)
    platform.work("maintenance")

    row = platform.row(id)
    assert row.ready_at is not None
    assert (row.ready_at - row.accepted_at).total_seconds() >= 3600


def test_a_lost_attempt_says_how_its_worker_ended_if_its_supervisor_saw_it(platform: Platform) -> None:
    id = platform.chore()
    with platform.database.transaction() as session:
        for number, started in enumerate((-60, 0)):  # of two workers of one name, the later one ended
            at = clock.now() + timedelta(seconds=started)
            workers.report(session, "worker-7", id=f"w{number}", queues=[], started_at=at, now=at)
        workers.note_end(session, "worker-7", how="was killed by SIGKILL")
    platform.begun(platform.fetched("maintenance", lease=0.05), worker="worker-7")

    wait_until(lambda: platform.fetch("maintenance"), seconds=10)

    assert platform.row(id).error == "The worker worker-7 was killed by SIGKILL while it ran the task."
    with platform.database.reading() as session:
        assert workers.how_ended(session, "worker-7", since=clock.now() - timedelta(seconds=30)) == ""


def test_a_task_waits_again_after_a_lost_attempt_and_names_the_worker(platform: Platform) -> None:
    id = platform.chore()
    delivery = platform.fetched("maintenance", lease=0.05)
    platform.begun(delivery, worker="worker-7")
    assert platform.state(id) == TaskState.PROCESSING

    again = wait_until(lambda: platform.fetch("maintenance"), seconds=5)

    row = platform.row(id)
    assert (row.state, row.error_type, "worker-7" in (row.error or "")) == ("pending", "WorkerLost", True)
    assert attempts(platform, id) == [(1, "lost")]
    assert again is not None
    platform.begun(again)
    assert (platform.state(id), attempts(platform, id)) == (TaskState.PROCESSING, [(1, "lost"), (2, None)])


@pytest.mark.parametrize(("marked", "state"), [(False, TaskState.FAILED), (True, TaskState.CANCELLED)])
def test_an_acknowledgement_without_an_outcome_is_a_failure_unless_the_task_was_cancelled(
    platform: Platform, marked: bool, state: TaskState
) -> None:
    id = platform.chore()
    platform.start("maintenance")
    if marked:
        platform.tasks.cancel(id)

    platform.engine.ack([platform.deliveries[id]])

    row = platform.row(id)
    assert row.state == state
    assert row.finished_at is not None
    assert (row.error_type == "Unrecorded") is (state is TaskState.FAILED)
    assert attempts(platform, id) == [(1, state.value)]


@pytest.mark.parametrize("running", [False, True])
def test_a_buried_message_is_a_dead_letter_with_its_reason(platform: Platform, running: bool) -> None:
    id = platform.chore()
    delivery = platform.fetched("maintenance")
    if running:
        platform.begun(delivery)

    platform.engine.bury([delivery], reason="rejected", error="nobody wants it")

    row = platform.row(id)
    assert (row.state, row.error_type, row.error) == ("dead_letter", "Undeliverable", "rejected: nobody wants it")
    assert row.finished_at is not None
    assert row.error_group
    assert row.raw is None, "the row has the payload"
    assert [outcome for _, outcome in attempts(platform, id)] in ([["dead_letter"], ["lost"]] if running else [[]])
    assert "bury" in event_kinds(platform, id)


def test_a_cancelled_message_is_a_cancelled_task(platform: Platform) -> None:
    id = platform.chore(delay=60)
    platform.engine.cancel("maintenance", id)

    row = platform.row(id)
    assert (row.state, row.due_at) == ("cancelled", None)
    assert row.finished_at is not None


def test_a_cancel_request_is_stored_until_the_task_ends(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    platform.engine.cancel("maintenance", id)

    assert (platform.state(id), platform.row(id).cancel_requested) == (TaskState.PROCESSING, True)
    platform.end(attempt, Stopped("interrupted"))
    assert (platform.state(id), attempts(platform, id)) == (TaskState.CANCELLED, [(1, "cancelled")])
    assert event_kinds(platform, id)[-2:] == ["mark", "end"]


def test_a_task_with_a_cancel_request_is_cancelled_when_its_worker_dies(platform: Platform) -> None:
    id = platform.chore()
    platform.begun(platform.fetched("maintenance", lease=0.05))
    platform.engine.cancel("maintenance", id)

    wait_until(lambda: platform.fetch("maintenance") is None and platform.state(id) == TaskState.CANCELLED, seconds=5)
    assert attempts(platform, id) == [(1, "lost")]


def test_purging_a_queue_cancels_waiting_tasks_only(platform: Platform) -> None:
    running = platform.chore()
    attempt = platform.start("maintenance")
    waiting = [platform.chore(), platform.chore(delay=60)]

    assert platform.engine.purge("maintenance") == 2

    assert {(platform.state(id), platform.row(id).error) for id in waiting} == {("cancelled", "The queue was purged.")}
    platform.end(attempt)
    assert platform.state(running) == TaskState.COMPLETED


def test_a_requeued_dead_letter_counts_from_zero_and_continues_the_numbers(platform: Platform) -> None:
    id = platform.chore()
    platform.start("maintenance")
    platform.engine.bury([platform.deliveries[id]], reason="rejected")
    assert platform.state(id) == TaskState.DEAD_LETTER

    platform.engine.requeue("maintenance", [id])
    platform.recorder.catch_up()

    row = platform.row(id)
    assert (row.state, row.attempts, row.attempts_before, row.error, row.raw) == ("pending", 0, 1, None, None)
    platform.work("maintenance")
    assert (platform.state(id), platform.row(id).attempts) == (TaskState.COMPLETED, 1)
    assert [number for number, _ in attempts(platform, id)] == [1, 2]


def test_a_retry_by_hand_continues_the_numbers_of_the_attempts(platform: Platform) -> None:
    id = platform.chore()
    platform.work("maintenance", Raised(ValueError("wrong")))
    platform.tasks.retry(id)
    platform.work("maintenance", AWAY, schedule=(0.0,))
    platform.work("maintenance")

    assert attempts(platform, id) == [(1, "failed"), (2, "retry"), (3, "completed")]
    assert platform.row(id).attempts == 2, "those since the retry by hand"


def test_a_message_that_is_sent_again_continues_the_numbers_of_the_attempts(platform: Platform) -> None:
    """The engine itself numbers the attempts of a new message from 1."""
    id = platform.chore()
    platform.start("maintenance")
    platform.recorder.catch_up()
    platform.lose("maintenance")
    platform.broker.prepare()

    assert platform.tasks.send(platform.row(id))

    platform.work("maintenance")
    assert platform.state(id) == TaskState.COMPLETED
    assert attempts(platform, id) == [(1, "lost"), (2, "completed")]
