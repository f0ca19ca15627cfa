"""Tasks as callers see them: states, status, queue figures."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,127}$")]
"""An id chosen by a caller: letters, digits and ``._:@+=-``, at most 128, starting with a letter or digit."""


class State(StrEnum):
    """Where a task is in its life."""

    ACCEPTED = "accepted"
    PENDING = "pending"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD_LETTER = "dead_letter"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


SENT = (State.PENDING, State.SCHEDULED)
"""Waiting, in the broker's hands."""
WAITING = (State.ACCEPTED, *SENT)
UNFINISHED = (*WAITING, State.PROCESSING)
FAILURES = (State.FAILED, State.DEAD_LETTER)
FINISHED = (State.COMPLETED, State.FAILED, State.DEAD_LETTER, State.CANCELLED, State.EXPIRED)


class Payload(BaseModel):
    """What a task is called with; unknown fields are refused, so that a typing error is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EndedTask(Payload):
    """Payload of the tasks that look after those which ended without being completed (`TaskSpec.on_failure`)."""

    task_id: str = Field(max_length=155)
    run: int = Field(description="Its attempts so far: a task that is run again by hand may end again")


class Answer(BaseModel):
    """What the API answers."""

    model_config = ConfigDict(frozen=True)


class TaskHandle(Answer):
    """The receipt of a submission."""

    task_id: str
    state: State
    created: bool
    """False when this id had been submitted before: nothing new was queued."""


class TaskStatus(Answer):
    """Everything a caller may know about one task."""

    task_id: str
    name: str = Field(examples=["process_conversation_message_task"])
    status: State
    progress: int = Field(ge=0, le=100)
    message: str | None = Field(None, description="What the task is doing, in its own words")
    result: dict[str, Any] | None
    error: str | None
    error_type: str | None
    attempts: int = Field(description="How often it was started")
    max_retries: int
    queue: str
    priority: int
    key: str | None = Field(description="Tasks with one key run one at a time, in the order of their submission")
    waiting_for: str | None = Field(description="Why it does not run yet, if it does not")
    worker: str | None
    cancel_requested: bool
    accepted_at: datetime
    due_at: datetime | None
    expires_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    tags: list[str] = Field(description="What it can be found by")


class AttemptView(Answer):
    """One attempt at a task."""

    number: int
    worker: str | None
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None = Field(
        description="completed, retry, snoozed, failed, dead_letter, cancelled, expired, lost; none while it runs"
    )
    error: str | None
    error_type: str | None
    delay: float | None = Field(description="seconds until the next attempt")
    traceback: str | None


class EventView(Answer):
    """Something that happened to a task."""

    id: int
    at: datetime
    kind: str
    attempt: int | None
    data: dict[str, Any]


class TaskPage(Answer):
    """Some tasks, newest first."""

    tasks: list[TaskStatus]
    next: int | None = Field(description="`before` of the next page; none on the last")


class QueueFigures(Answer):
    """One queue, counted from the ledger."""

    lane: str
    active: int = Field(description="being worked on")
    accepted: int = Field(0, description="accepted, and not yet with the broker")
    pending: int = Field(description="waiting for a worker or for an earlier task of the same key")
    scheduled: int = Field(description="due later, retries included")
    dead: int = Field(description="dead letters, to be looked at")
    workers: int = Field(description="live workers that serve this queue")


class QueuesStatus(Answer):
    """All queues at one moment."""

    queues: dict[str, QueueFigures]
    timestamp: datetime


class ActiveTasks(Answer):
    """What is being worked on now."""

    tasks: list[TaskStatus]
    count: int
    timestamp: datetime


class CancelAnswer(Answer):
    """What a cancel did."""

    task_id: str
    status: State
    cancelled: bool = Field(description="True: it will not run. False: it runs and was asked to stop.")
