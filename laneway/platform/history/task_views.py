"""Turns rows into the views that callers get."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from laneway.engine import EventKind
from laneway.platform import clock
from laneway.platform.db.models import TaskAttempt, TaskEvent, TaskRun, Worker
from laneway.platform.db.queries.workers import ALIVE
from laneway.platform.logging import without_secrets
from laneway.platform.queues import queues as declared
from laneway.platform.sealing import shown
from laneway.schemas.task import AttemptView, EventView, QueueFigures, TaskState, TaskStatus
from laneway.schemas.worker import WorkerView


def describe(run: TaskRun, *, waiting_for: str | None = None) -> TaskStatus:
    """The status of a task."""
    return TaskStatus(
        task_id=run.id,
        name=run.name,
        status=display_state(run),
        progress=run.progress,
        message=without_secrets(run.progress_message),
        result=shown(run.result),
        error=without_secrets(run.error),
        error_type=run.error_type,
        attempts=run.attempts_before + run.attempts,
        max_retries=run.max_retries,
        queue=run.queue,
        priority=run.priority,
        key=run.key,
        waiting_for=waiting_for,
        worker=run.worker,
        cancel_requested=run.cancel_requested,
        accepted_at=run.accepted_at,
        due_at=run.due_at,
        expires_at=run.expires_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        tags=run.tags,
        batch_id=run.batch_id,
    )


def display_state(run: TaskRun) -> TaskState:
    """The state that is shown.

    A scheduled task that is due is shown as pending. A task that was retried by hand is shown as accepted until the
    broker has its message.
    """
    if run.state == TaskState.PENDING and run.published_at is None:
        return TaskState.ACCEPTED
    if run.state == TaskState.SCHEDULED and run.due_at and run.due_at <= clock.now():
        return TaskState.PENDING
    return TaskState(run.state)


def describe_attempt(attempt: TaskAttempt) -> AttemptView:
    """The view of an attempt."""
    return AttemptView(
        number=attempt.number,
        worker=attempt.worker,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        outcome=attempt.outcome,
        error=without_secrets(attempt.error),
        error_type=attempt.error_type,
        delay=attempt.delay,
        traceback=without_secrets(attempt.traceback),
    )


def describe_event(event: TaskEvent) -> EventView:
    """The view of an event. The output of a task is shown as its result is: decrypted, and with nothing hidden."""
    if event.kind == EventKind.OUTPUT:
        data = {**event.data, "chunks": shown(event.data.get("chunks"))}
    else:
        data = without_secrets(event.data)
    return EventView(id=event.seq, at=event.at, kind=event.kind, attempt=event.attempt, data=data)


def describe_worker(worker: Worker, *, running: Sequence[str], now: datetime) -> WorkerView:
    """The view of a worker. `running`: the ids of its running tasks."""
    return WorkerView(
        name=worker.name,
        host=worker.host,
        version=worker.version,
        memory=worker.memory,
        leases=worker.leases,
        disk_free=worker.disk_free,
        queues=worker.queues,
        running=list(running[:100]),
        started_at=worker.started_at,
        seen_at=worker.seen_at,
        alive=worker.ended is None and worker.seen_at > now - ALIVE,
        ended=worker.ended,
    )


def queue_figures(
    name: str, counts: dict[tuple[str, str], int], serving: dict[str, int], *, paused: bool = False
) -> QueueFigures:
    """The number of tasks of a queue by state. `counts`: by queue and state. `serving`: live workers by queue."""

    def count(*states: TaskState) -> int:
        return sum(counts.get((name, state), 0) for state in states)

    return QueueFigures(
        lane=declared.get(name, "low"),
        active=count(TaskState.PROCESSING),
        accepted=count(TaskState.ACCEPTED),
        pending=count(TaskState.PENDING),
        scheduled=count(TaskState.SCHEDULED),
        dead=count(TaskState.DEAD_LETTER),
        workers=serving.get(name, 0),
        paused=paused,
    )
