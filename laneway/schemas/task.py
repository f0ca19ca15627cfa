"""Tasks: states, status, attempts, events, and the figures of queues."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pydantic import ConfigDict, Field

from laneway.schemas.choices import SubmitOutcome, TaskState
from laneway.schemas.forecast import Forecast
from laneway.schemas.model import Model

SENT = (TaskState.PENDING, TaskState.SCHEDULED)
"""States of a task that waits and is in the broker."""
WAITING = (TaskState.ACCEPTED, *SENT)
UNFINISHED = (*WAITING, TaskState.PROCESSING)
FAILURES = (TaskState.FAILED, TaskState.DEAD_LETTER)
FINISHED = (TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER, TaskState.CANCELLED, TaskState.EXPIRED)


class Response(Model):
    """Base of the API's responses."""

    model_config = ConfigDict(frozen=True)


class TaskHandle(Response):
    """The receipt of a submission."""

    task_id: str
    state: TaskState
    created: bool
    """False: this id was submitted before, and nothing new was queued."""
    renamed_to: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """The present name of the task, if it was submitted under an earlier name; else the field is missing."""
    outcome: SubmitOutcome | None = Field(default=None, exclude_if=lambda outcome: outcome is None)
    """What became of a submission with a debounce, a throttle or an `if_busy`; else the field is missing.

    accepted: a new task. repeated: its id was submitted before. merged: the task waits on, with this payload.
    throttled: the task of this period. dropped: the task is in the way, and nothing was accepted. replaced: a new task,
    for which those in `replaced` are stopped.
    """
    replaced: list[str] = Field(default=[], exclude_if=lambda ids: not ids)
    """The tasks that are stopped for this one, at most 20 of them."""
    forecast: Forecast | None = Field(default=None, exclude_if=lambda forecast: forecast is None)
    """When it will probably start and end, if the request asked for it and it is known; else the field is missing."""


class TaskStatus(Response):
    """The status of one task."""

    task_id: str
    name: str = Field(examples=["send_invoice_task"])
    status: TaskState
    progress: int = Field(ge=0, le=100)
    message: str | None = Field(None, description="The last progress message of the task")
    result: dict[str, Any] | None
    error: str | None
    error_type: str | None
    attempts: int = Field(description="How often the task was started")
    max_retries: int
    queue: str
    priority: int
    key: str | None = Field(description="Tasks with the same key run one at a time, in the order of their submission")
    waiting_for: str | None = Field(description="Why the task does not run yet; null when it runs or is finished")
    worker: str | None
    cancel_requested: bool
    accepted_at: datetime
    due_at: datetime | None
    expires_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    tags: list[str] = Field(description="Tags by which the task can be found")
    batch_id: str | None = Field(
        None, description="The batch of which it is a task; else the field is missing", exclude_if=lambda id: id is None
    )


class TaskDetails(TaskStatus):
    """The status of one task, and what it was given."""

    payload: dict[str, Any] = Field(description="The payload; values under names of secrets are hidden")
    trace_id: str | None = Field(None, description="The trace to which the task belongs, if that is recorded")


class AttemptView(Response):
    """One attempt of a task."""

    number: int
    worker: str | None
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None = Field(
        description="completed, retry, snoozed, failed, dead_letter, cancelled, expired, lost; null while it runs"
    )
    error: str | None
    error_type: str | None
    delay: float | None = Field(description="Seconds until the next attempt")
    traceback: str | None


STOPPING: Final = "stopping"
"""The last event of a stream that ends because the API stops. It is no event of the task, and has no id."""


class EventView(Response):
    """One event of a task."""

    id: int
    at: datetime
    kind: str
    attempt: int | None
    data: dict[str, Any]


class TaskPage(Response):
    """A page of tasks, newest first."""

    tasks: list[TaskStatus]
    next: int | None = Field(description="`before` of the next page; null on the last page")


class QueueFigures(Response):
    """The figures of one queue, counted in the database."""

    lane: str
    active: int = Field(description="Running tasks")
    accepted: int = Field(0, description="Tasks that were accepted and have not reached the broker yet")
    pending: int = Field(description="Tasks that wait for a worker, or for an earlier task of the same key")
    scheduled: int = Field(description="Tasks that are due later, retries included")
    dead: int = Field(description="Dead letters")
    workers: int = Field(description="Live workers that serve this queue")
    paused: bool = Field(False, description="An operator has paused the queue: no task of it is started")


class QueuesResponse(Response):
    """The figures of all queues at one moment."""

    queues: dict[str, QueueFigures]
    timestamp: datetime


class ActiveTasksResponse(Response):
    """The tasks that run now."""

    tasks: list[TaskStatus]
    count: int
    timestamp: datetime


class CancelResponse(Response):
    """The outcome of a cancel."""

    task_id: str
    status: TaskState
    cancelled: bool = Field(description="True: the task will not run. False: it runs and was asked to stop.")
