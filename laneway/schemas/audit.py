"""The audit: what the comparison of history, engine and results has found."""

from __future__ import annotations

from pydantic import Field

from laneway.schemas.choices import TaskState
from laneway.schemas.queue import UnknownQueue
from laneway.schemas.task import Response


class AuditedQueueView(Response):
    """What the engine has of one queue."""

    waiting: int
    leased: int
    dead: int
    set_aside: int = Field(description="Messages that only a newer version of Laneway can read")
    format: int
    newer: bool = Field(description="A newer version of Laneway has changed the queue, so that it was not compared")


class UnaccountedTaskView(Response):
    """An unfinished task that the engine will not deliver, or whose result says that it has ended."""

    task_id: str
    name: str
    queue: str
    state: TaskState
    why: str


class StrayView(Response):
    """A message of the engine that is in no state, or a reference to a message that it does not have."""

    queue: str
    kind: str
    id: str


class ResultFindingView(Response):
    """A result that contradicts the history or is missing."""

    task_id: str
    kind: str = Field(description="missing, contradicting or unknown")
    state: TaskState | None = Field(description="The state in the history; null: the task is unknown")
    stored: str | None = Field(description="Celery's state in the store; null: none, or the task is unknown")


class ResultReportView(Response):
    """The outcome of comparing the result store with the history."""

    listable: bool = Field(description="False: this kind of result store cannot be searched; nothing was compared")
    looked_at: int = Field(description="Finished tasks whose results were compared")
    found: dict[str, int]
    named: list[ResultFindingView] = Field(description="The first findings")
    repaired: int
    scanned_all: bool = Field(description="False: the store has more results than were searched for unknown tasks")


class AuditView(Response):
    """The result of an audit. Each list has at most 1000 entries."""

    accepted: int = Field(description="All tasks of the history")
    by_state: dict[TaskState, int]
    engine: dict[str, AuditedQueueView]
    unread_events: int = Field(description="Events that are not recorded yet")
    unaccounted: list[UnaccountedTaskView]
    unknown: list[str] = Field(description="Tasks in the engine that the history does not know")
    again: list[str] = Field(description="Finished tasks that the engine would deliver")
    strays: list[StrayView]
    older: dict[str, str] = Field(description="Queue → database or broker: which of the two is an older copy")
    unknown_queues: list[UnknownQueue]
    repaired: int
    open: int = Field(description="How many findings were not repaired")
    not_listed: int = Field(description="Findings beyond those that are listed")
    balanced: bool = Field(description="History and engine agree about each task, and every event is recorded")
    results: ResultReportView
