"""Requests and answers about tasks in general: submissions, searches, dead letters, figures."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from laneway.platform.payload import Identifier
from laneway.platform.schemas.statistics import Window
from laneway.platform.schemas.task import QueueFigures, Response, TaskHandle, TaskState

Tag = Annotated[str, StringConstraints(pattern=r"^[\w.:@/+=-]{1,64}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
A_YEAR = 366 * 86_400


class PriorityName(StrEnum):
    """How urgent."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class UniqueFor(StrEnum):
    """How long a uniqueness key is held."""

    START = "until_start"
    DONE = "until_done"
    TIME = "for_time"


class DurabilityName(StrEnum):
    """Where the message must have arrived before it is accepted."""

    MEMORY = "memory"
    DISK = "disk"
    REPLICA = "replica"


class Uniqueness(BaseModel):
    """One task with this key at a time."""

    model_config = ConfigDict(extra="forbid")

    key: Text
    until: UniqueFor = UniqueFor.DONE
    seconds: float = Field(
        0, strict=True, ge=0, le=A_YEAR, description="For `for_time`; else the longest it is held (0: no limit)"
    )

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if self.until is UniqueFor.TIME and self.seconds <= 0:
            raise ValueError("for_time needs seconds")
        return self


class TaskRequest(BaseModel):
    """A task of any type."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "generate_performance_report_task", "payload": {}, "priority": "high", "tags": ["by-hand"]}
            ]
        },
    )

    name: Text | None = Field(None, description="The task's registered name")
    type: Text | None = Field(None, description="The same, for callers who call it so")
    payload: dict[str, Any] = Field(default_factory=dict)
    id: Identifier | None = Field(None, description="The same id again, with the same payload, is the same task")
    idempotency_key: Text | None = Field(None, description="Instead of an id")
    priority: PriorityName | Annotated[int, Field(strict=True, ge=0, le=3)] | None = Field(
        None, description="By its name, or as a number: low 0, normal 1, high 2, critical 3"
    )
    delay: float = Field(0, strict=True, ge=0, le=A_YEAR, description="Seconds until it may start")
    expires: float | None = Field(
        None, strict=True, gt=0, le=A_YEAR, description="Seconds after which it is not started any more"
    )
    unique: Uniqueness | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    durability: DurabilityName = DurabilityName.MEMORY

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.id is not None and self.idempotency_key is not None:
            raise ValueError("id and idempotency_key exclude each other")
        if (self.name is None) == (self.type is None):
            raise ValueError("say which task: its name, or its type, which is the same")
        return self

    @property
    def task(self) -> str:
        """The task's registered name."""
        return self.name or self.type or ""


MOST_AT_ONCE = 1000


class TaskBatch(BaseModel):
    """Many tasks, accepted together or not at all."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"tasks": [{"type": "generate_performance_report_task", "payload": {"hours": 1}}]}]
        },
    )

    tasks: list[TaskRequest] = Field(min_length=1, max_length=MOST_AT_ONCE)


class BatchAccepted(Response):
    """What became of each, in their order."""

    tasks: list[TaskHandle]
    created: int = Field(description="How many had not been accepted before")


class DeadLetterView(Response):
    """One dead letter, with everything that is kept of it."""

    task_id: str
    name: str
    queue: str
    state: TaskState
    payload: dict[str, Any]
    error: str | None
    error_type: str | None
    traceback: str | None
    group: str | None = Field(description="The same for all that failed the same way")
    attempts: int
    worker: str | None
    key: str | None
    tags: list[str]
    raw: str | None = Field(description="The message as it came, in base64, if it could not be read or run")
    accepted_at: datetime
    finished_at: datetime | None
    trashed_at: datetime | None = Field(description="When it was discarded; deleted a day later")


class DeadLetterPage(Response):
    """Some dead letters, newest first."""

    dead_letters: list[DeadLetterView]
    next: int | None = Field(description="`before` of the next page; none on the last")


class GroupView(Response):
    """What failed the same way."""

    group: str
    name: str
    error_type: str
    error: str = Field(description="Of one of them")
    count: int
    first_at: datetime | None
    last_at: datetime | None


class Groups(Response):
    """Groups, the largest first."""

    groups: list[GroupView]


class Selection(BaseModel):
    """Which dead letters: by id, by group, or by what they have in common."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"group": "5d0c6a1f3b7e9a24", "dry_run": True}]}
    )

    ids: list[Text] = Field(default_factory=list, max_length=1000)
    group: Text | None = None
    name: Text | None = None
    queue: Text | None = None
    tag: Text | None = None
    error: Text | None = Field(None, description="Part of the error's text")
    failed: StrictBool = Field(False, description="Permanent failures, too")
    everything: StrictBool = Field(False, description="Needed when nothing else is said")
    dry_run: StrictBool = Field(False, description="Say what would be done, and do nothing")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.ids or self.group or self.name or self.queue or self.tag or self.error or self.everything):
            raise ValueError("say which: ids, group, name, queue, tag, error, or everything")
        return self


class Done(Response):
    """What was done, or would be, to the selected dead letters."""

    matched: int
    done: int
    dry_run: bool
    samples: list[str] = Field(description="Ids of some of them")
    refused: dict[str, str] = Field(description="Id → why nothing was done with it")


class Stats(Response):
    """Everything at one moment."""

    queues: dict[str, QueueFigures]
    tasks: dict[str, int] = Field(description="State → number, in the whole history")
    unread_events: int = Field(description="Events that wait to be recorded")
    unread_limit: int = Field(description="At so many nothing more is accepted (MAX_UNREAD_EVENTS)")
    workers: int
    timestamp: datetime
    window: Window = Field(description="How it went lately")


class Clearable(StrEnum):
    """Ends of which the tasks may be cleared away; dead letters are looked through first (`/dead-letters`)."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Cleared(Response):
    """What was cleared away."""

    deleted: int
    more: bool = Field(description="One call deletes so many at most: there are more of them")
