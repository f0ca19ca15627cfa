"""Rows as callers see them."""

from __future__ import annotations

from datetime import datetime

from app.core import clock
from app.core.queues import QUEUES
from app.db.models import TaskAttempt, TaskEvent, TaskRun
from app.schemas.task import AttemptView, EventView, QueueFigures, State, TaskStatus
from app.services.throttles import paused_reason, throttle_reason
from laneway import Found, QueueStats
from laneway import State as Place


def describe(run: TaskRun, *, waiting_for: str | None = None) -> TaskStatus:
    """One task."""
    return TaskStatus(
        task_id=run.id, name=run.name, status=shown(run), progress=run.progress, message=run.progress_message,
        result=run.result, error=run.error, error_type=run.error_type, attempts=run.attempts_before + run.attempts,
        max_retries=run.max_retries, queue=run.queue, priority=run.priority, key=run.key, waiting_for=waiting_for,
        worker=run.worker, cancel_requested=run.cancel_requested, accepted_at=run.accepted_at, due_at=run.due_at,
        expires_at=run.expires_at, started_at=run.started_at, finished_at=run.finished_at, tags=run.tags,
    )  # fmt: skip


def shown(run: TaskRun) -> State:
    """What is due waits like any other; what was sent anew by hand is accepted until the broker has it."""
    if run.state == State.PENDING and run.published_at is None:
        return State.ACCEPTED
    if run.state == State.SCHEDULED and run.due_at and run.due_at <= clock.now():
        return State.PENDING
    return State(run.state)


def describe_attempt(attempt: TaskAttempt) -> AttemptView:
    """One attempt."""
    return AttemptView(
        number=attempt.number, worker=attempt.worker, started_at=attempt.started_at, ended_at=attempt.ended_at,
        outcome=attempt.outcome, error=attempt.error, error_type=attempt.error_type, delay=attempt.delay,
        traceback=attempt.traceback,
    )  # fmt: skip


def describe_event(event: TaskEvent) -> EventView:
    """One event of a task's story."""
    return EventView(id=event.seq, at=event.at, kind=event.kind, attempt=event.attempt, data=event.data)


def reason(found: Found | None) -> str | None:
    """Why a message is not delivered, if the reason is in the queue."""
    if found is None:
        return "being sent again: the broker does not have it"
    if found.state is Place.HELD:
        ahead = f" (task {found.behind})" if found.behind else ""
        return f"an earlier task of {found.stored.message.key}{ahead}"
    return None


def waiting_for(
    run: TaskRun, *, serving: int, now: datetime, why: str | None = None, stats: QueueStats | None = None
) -> str:
    """What a sent task waits for, the most stubborn thing first.

    `serving`: live workers of its queue; `why` is of `reason`, and `stats` of its queue, where they can be had.
    """
    paused = paused_reason(stats) if stats else None
    if paused or why:
        return paused or why or ""
    if run.state == State.SCHEDULED and run.due_at and run.due_at > now:
        return "its due time"
    if not serving:
        return f"a worker: none serves the queue {run.queue!r}"
    return (throttle_reason(stats, now=now) if stats else None) or "a free worker"


def figures(name: str, counts: dict[tuple[str, str], int], serving: dict[str, int]) -> QueueFigures:
    """One queue."""

    def count(*states: State) -> int:
        return sum(counts.get((name, state), 0) for state in states)

    return QueueFigures(
        lane=QUEUES.get(name, "low"), active=count(State.PROCESSING), accepted=count(State.ACCEPTED),
        pending=count(State.PENDING), scheduled=count(State.SCHEDULED),
        dead=count(State.DEAD_LETTER), workers=serving.get(name, 0),
    )  # fmt: skip
