"""What callers see of tasks and queues."""

from __future__ import annotations

import pytest

from app.core.queues import QUEUES
from laneway.engine import EventKind
from laneway.platform import clock
from laneway.platform.db.models import TaskAttempt, TaskEvent
from laneway.platform.db.queries import workers
from laneway.platform.errors import TaskExpired, UnknownTask
from laneway.platform.execution.outcomes import Completed, Raised
from laneway.platform.history.adoption import run_from_call
from laneway.platform.history.task_views import describe, describe_attempt, describe_event
from laneway.platform.queues import Priority
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform

# --- status -------------------------------------------------------------------------------------------------


def test_the_status_of_an_unknown_task_is_a_404(platform: Platform) -> None:
    with pytest.raises(UnknownTask) as unknown:
        platform.tasks.status("nobody")

    assert unknown.value.status == 404


@pytest.mark.parametrize("id", ["null\x00byte", "x" * 10_000, "ü ☃", ""])
def test_an_id_that_no_database_could_store_is_unknown(platform: Platform, id: str) -> None:
    for method in (platform.tasks.status, platform.tasks.cancel, platform.tasks.retry, platform.tasks.current):
        with pytest.raises(UnknownTask):
            method(id)


def test_the_status_of_an_expired_task_is_a_410(platform: Platform, movable_clock: MovableClock) -> None:
    id = platform.brought_to(TaskState.COMPLETED)
    hours = platform.settings.tasks.status_expiry_hours
    movable_clock.forward(hours * 3600 - 60)
    assert platform.tasks.status(id).status == TaskState.COMPLETED
    movable_clock.forward(120)

    with pytest.raises(TaskExpired, match=f"{hours} hours") as expired:
        platform.tasks.status(id)

    assert expired.value.status == 410


def test_the_status_of_an_unfinished_task_never_expires(platform: Platform, movable_clock: MovableClock) -> None:
    id = platform.message()
    movable_clock.forward(365 * 86_400)

    assert platform.tasks.status(id).status == TaskState.PENDING


def test_a_status_shows_everything(platform: Platform) -> None:
    id = platform.message(priority=Priority.HIGH)
    attempt = platform.start(worker="worker-7")
    platform.attempts.report(attempt, EventKind.PROGRESS, {"percent": 40, "message": "thinking"})

    status = platform.tasks.status(id)

    assert (status.status, status.progress, status.message) == (TaskState.PROCESSING, 40, "thinking")
    assert (status.attempts, status.queue, status.priority, status.worker) == (1, "conversations", 2, "worker-7")
    assert status.accepted_at <= (status.started_at or status.accepted_at) <= clock.now()
    assert status.waiting_for is None
    platform.end(attempt, Completed({"reply": "hi"}))
    done = platform.tasks.status(id)
    assert (done.status, done.progress, done.result, done.error) == (TaskState.COMPLETED, 100, {"reply": "hi"}, None)
    assert done.finished_at is not None


def test_a_status_says_what_the_task_waits_for(platform: Platform) -> None:
    first, second, later = platform.message(), platform.message(), platform.message("c-2", delay=60)
    behind = platform.message("c-2")
    assert waiting_for(platform, first) == "a worker: none serves the queue 'conversations'"
    serve(platform, "conversations")

    assert waiting_for(platform, first) == "a free worker"
    assert waiting_for(platform, second) == f"an earlier task of conversation_id:c-1 (task {first})"
    assert waiting_for(platform, later) == "its due time"
    assert waiting_for(platform, behind) == f"an earlier task of conversation_id:c-2 (task {later})"
    attempt = platform.start()
    assert waiting_for(platform, first) is None
    assert waiting_for(platform, second) == f"an earlier task of conversation_id:c-1 (task {first})"
    platform.end(attempt)
    assert waiting_for(platform, first) is None
    assert waiting_for(platform, second) == "a free worker"


def test_an_earlier_task_that_waits_for_its_retry_is_named(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    assert platform.work(outcome=Raised(OSError("away")), schedule=(60.0,)) == first

    assert waiting_for(platform, first) == "its due time"
    assert waiting_for(platform, second) == f"an earlier task of conversation_id:c-1 (task {first})"


def test_a_status_says_that_the_broker_lost_the_task_or_cannot_be_reached(platform: Platform) -> None:
    id = platform.message()
    serve(platform, "conversations")
    platform.lose("conversations")
    assert waiting_for(platform, id) == "its message to be sent again: the broker does not have it"

    platform.valkey.stop()

    assert waiting_for(platform, id) == "the broker, which cannot be reached"


def test_a_scheduled_task_that_is_due_is_shown_as_pending(platform: Platform, movable_clock: MovableClock) -> None:
    id = platform.message(delay=60)
    assert platform.tasks.status(id).status == TaskState.SCHEDULED
    assert platform.tasks.queues()["conversations"].scheduled == 1

    movable_clock.forward(61)

    assert platform.tasks.status(id).status == TaskState.PENDING
    figures = platform.tasks.queues()["conversations"]
    assert (figures.pending, figures.scheduled) == (1, 0)


def test_the_status_of_a_finished_task_does_not_need_the_broker(platform: Platform) -> None:
    id = platform.brought_to(TaskState.COMPLETED)
    platform.valkey.stop()

    assert platform.tasks.status(id).status == TaskState.COMPLETED
    assert platform.tasks.queues()["conversations"].pending == 0


def waiting_for(platform: Platform, id: str) -> str | None:
    return platform.tasks.status(id).waiting_for


def serve(platform: Platform, *queues: str) -> None:
    now = clock.now()
    with platform.database.transaction() as session:
        workers.report(session, "w1", id="w1", queues=queues, started_at=now, now=now)


def test_a_task_its_attempts_and_its_events_are_shown_without_secrets() -> None:
    now, text = clock.now(), "no answer of {}"
    told, shown = text.format("https://user:hunter2@x.example/a"), text.format("https://x.example/a")
    run = run_from_call("t-1", "note", {}, queue="celery", at=now, priority=3)
    run.error = run.progress_message = told
    attempt = TaskAttempt(task_id="t-1", number=1, started_at=now, error=told, traceback=told)
    event = TaskEvent(seq=1, task_id="t-1", at=now, kind="log", data={"text": told, "token": "hunter2"})

    status, attempted, happened = describe(run), describe_attempt(attempt), describe_event(event)

    assert (status.error, status.message) == (shown, shown)
    assert (attempted.error, attempted.traceback) == (shown, shown)
    assert happened.data == {"text": shown, "token": "[redacted]"}


# --- queue figures and lists --------------------------------------------------------------------------------


def test_queue_figures_count_tasks_by_state(platform: Platform) -> None:
    for state in reversed(TaskState):  # waiting tasks last, or a later step would run them
        platform.brought_to(state, conversation=f"c-{state}")
    serve(platform, "conversations", "webhooks")

    figures = platform.tasks.queues()

    busy = figures["conversations"]
    assert (busy.active, busy.pending, busy.scheduled, busy.dead, busy.workers) == (1, 1, 1, 1, 1)
    assert busy.accepted == 1
    assert busy.lane == "high"
    assert set(figures) == set(QUEUES)
    assert (figures["webhooks"].workers, figures["analytics"].workers) == (1, 0)


def test_a_worker_that_stopped_reporting_is_not_counted(platform: Platform, movable_clock: MovableClock) -> None:
    serve(platform, "webhooks")
    assert platform.tasks.live_workers() == 1
    movable_clock.forward(21)

    assert platform.tasks.live_workers() == 0
    assert platform.tasks.queues()["webhooks"].workers == 0


def test_active_and_dead_tasks_are_listed_newest_first(platform: Platform) -> None:
    running = [platform.brought_to(TaskState.PROCESSING, conversation=f"c-{number}") for number in range(3)]
    dead = [platform.brought_to(TaskState.DEAD_LETTER, conversation=f"d-{number}") for number in range(2)]

    assert [task.task_id for task in platform.tasks.active()] == running[::-1]
    assert [task.task_id for task in platform.tasks.active(limit=1)] == running[-1:]
    assert [task.task_id for task in platform.tasks.dead()] == dead[::-1]
    assert [task.task_id for task in platform.tasks.runs([dead[1], "nobody", running[0]])] == [running[0], dead[1]]
