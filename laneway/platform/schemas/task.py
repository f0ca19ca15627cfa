"""Tasks as callers see them: states, status, queue figures."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class TaskState(StrEnum):
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


SENT = (TaskState.PENDING, TaskState.SCHEDULED)
"""Waiting, in the broker's hands."""
WAITING = (TaskState.ACCEPTED, *SENT)
UNFINISHED = (*WAITING, TaskState.PROCESSING)
FAILURES = (TaskState.FAILED, TaskState.DEAD_LETTER)
FINISHED = (TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER, TaskState.CANCELLED, TaskState.EXPIRED)


class Response(BaseModel):
    """What the API answers."""

    model_config = ConfigDict(frozen=True)


class TaskHandle(Response):
    """The receipt of a submission."""

    task_id: str
    state: TaskState
    created: bool
    """False when this id had been submitted before: nothing new was queued."""


class TaskStatus(Response):
    """Everything a caller may know about one task."""

    task_id: str
    name: str = Field(examples=["process_conversation_message_task"])
    status: TaskState
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


class AttemptView(Response):
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


class EventView(Response):
    """Something that happened to a task."""

    id: int
    at: datetime
    kind: str
    attempt: int | None
    data: dict[str, Any]


class TaskPage(Response):
    """Some tasks, newest first."""

    tasks: list[TaskStatus]
    next: int | None = Field(description="`before` of the next page; none on the last")


class QueueFigures(Response):
    """One queue, counted from the ledger."""

    lane: str
    active: int = Field(description="being worked on")
    accepted: int = Field(0, description="accepted, and not yet with the broker")
    pending: int = Field(description="waiting for a worker or for an earlier task of the same key")
    scheduled: int = Field(description="due later, retries included")
    dead: int = Field(description="dead letters, to be looked at")
    workers: int = Field(description="live workers that serve this queue")


class QueuesStatus(Response):
    """All queues at one moment."""

    queues: dict[str, QueueFigures]
    timestamp: datetime


class ActiveTasks(Response):
    """What is being worked on now."""

    tasks: list[TaskStatus]
    count: int
    timestamp: datetime


class CancelResponse(Response):
    """What a cancel did."""

    task_id: str
    status: TaskState
    cancelled: bool = Field(description="True: it will not run. False: it runs and was asked to stop.")
