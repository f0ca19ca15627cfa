"""Tasks of any name: submissions, dead letters, statistics, and clearing."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StrictBool, StringConstraints, model_validator

from laneway.schemas.choices import DurabilityName, IfBusy, PriorityName, TaskState, UniqueFor
from laneway.schemas.key_rule import A_YEAR as A_YEAR
from laneway.schemas.key_rule import Debounce, Throttle
from laneway.schemas.model import Model
from laneway.schemas.number import Whole
from laneway.schemas.payload import Identifier
from laneway.schemas.queue import UnknownQueue
from laneway.schemas.statistics import Window
from laneway.schemas.task import QueueFigures, Response, TaskHandle
from laneway.schemas.text import Text

Tag = Annotated[str, StringConstraints(pattern=r"^[\w.:@/+=-]{1,64}$")]


class Uniqueness(Model):
    """Accept only one task with this key at a time."""

    model_config = ConfigDict(extra="forbid")

    key: Text
    until: UniqueFor = UniqueFor.DONE
    seconds: float = Field(
        0,
        strict=True,
        ge=0,
        le=A_YEAR,
        description="For `for_time`: how long the key is held; otherwise the longest time (0: no limit)",
    )

    @model_validator(mode="after")
    def _require_seconds(self) -> Self:
        if self.until is UniqueFor.TIME and self.seconds <= 0:
            raise ValueError("for_time needs seconds")
        return self


class TaskRequest(Model):
    """Submit a task of any name."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "send_invoice_task", "payload": {}, "priority": "high", "tags": ["by-hand"]},
                {"name": "send_invoice_task", "payload": {}, "key": "customer-7", "if_busy": "newest"},
                {"name": "send_invoice_task", "payload": {}, "debounce": {"key": "invoice-17", "seconds": 5}},
            ]
        },
    )

    name: Text | None = Field(None, description="The registered name of the task")
    type: Text | None = Field(None, description="Another spelling of `name`; give one of the two")
    payload: dict[str, Any] = Field(default_factory=dict)
    id: Identifier | None = Field(None, description="The same id with the same payload is the same task")
    idempotency_key: Text | None = Field(None, description="Instead of `id`")
    key: Text | None = Field(
        None,
        description="The ordering key: tasks with the same key run one at a time, in the order of their submission. "
        "Default: the value of the field that the task's declaration names, as `field:value`",
    )
    priority: PriorityName | Annotated[Whole, Field(ge=0, le=3)] | None = Field(
        None, description="A name, or a number: low 0, normal 1, high 2, critical 3"
    )
    delay: float = Field(0, strict=True, ge=0, le=A_YEAR, description="Seconds until the task may start")
    expires: float | None = Field(
        None, strict=True, gt=0, le=A_YEAR, description="Seconds after which the task is not started any more"
    )
    unique: Uniqueness | None = None
    debounce: Debounce | None = None
    throttle: Throttle | None = None
    if_busy: IfBusy | None = Field(
        None,
        description="While another task of this name and ordering key waits or runs: wait; drop the new one; replace "
        "those that wait; cancel_running stops the running one; newest stops both. Default: that of the declaration",
    )
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    tenant: Text | None = Field(None, description="Tenants of a queue take turns; default: that of the task")
    weight: Annotated[Whole, Field(ge=1, le=100)] = Field(1, description="The tenant's share of the queue")
    deadline: float | None = Field(
        None, strict=True, gt=0, le=A_YEAR, description="Seconds within which it should run; earlier ones go first"
    )
    durability: DurabilityName = DurabilityName.MEMORY

    @model_validator(mode="after")
    def _allow_one_identity(self) -> Self:
        if self.id is not None and self.idempotency_key is not None:
            raise ValueError("id and idempotency_key exclude each other")
        if (self.name is None) == (self.type is None):
            raise ValueError("name the task: give either name or type")
        return self

    @property
    def task(self) -> str:
        """The task's registered name."""
        return self.name or self.type or ""


MAX_BATCH = 1000


class TaskBatch(Model):
    """Submit many tasks: all of them are accepted, or none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"tasks": [{"name": "send_invoice_task", "payload": {"invoice_id": "2026-17"}}]}]
        },
    )

    tasks: list[TaskRequest] = Field(min_length=1, max_length=MAX_BATCH)


class BatchResponse(Response):
    """The handles of the submitted tasks, in their order."""

    tasks: list[TaskHandle]
    created: int = Field(description="Number of tasks that are new")


class DeadLetterView(Response):
    """One dead letter, with everything that is stored about it."""

    task_id: str
    name: str
    queue: str
    state: TaskState
    payload: dict[str, Any]
    error: str | None
    error_type: str | None
    traceback: str | None
    group: str | None = Field(description="The same for all tasks that failed the same way")
    attempts: int
    worker: str | None
    key: str | None
    tags: list[str]
    raw: str | None = Field(description="The original message in base64, if it could not be read or run")
    accepted_at: datetime
    finished_at: datetime | None
    trashed_at: datetime | None = Field(description="When it was discarded; it is deleted a day later")


class DeadLetterPage(Response):
    """A page of dead letters, newest first."""

    dead_letters: list[DeadLetterView]
    next: int | None = Field(description="`before` of the next page; null on the last page")


class DeadLetterGroupView(Response):
    """Tasks that failed the same way."""

    group: str
    name: str
    error_type: str
    error: str = Field(description="The error of one of them")
    count: int
    first_at: datetime | None
    last_at: datetime | None


class DeadLetterGroupsResponse(Response):
    """Groups of dead letters, the largest first."""

    groups: list[DeadLetterGroupView]


class DeadLetterSelection(Model):
    """Select dead letters by id, by group, or by properties."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"group": "5d0c6a1f3b7e9a24", "dry_run": True}]}
    )

    ids: list[Text] = Field(default_factory=list, max_length=1000)
    group: Text | None = None
    name: Text | None = None
    queue: Text | None = None
    tag: Text | None = None
    error: Text | None = Field(None, description="Part of the error text")
    failed: StrictBool = Field(False, description="Include permanent failures")
    everything: StrictBool = Field(False, description="Required if nothing else selects")
    dry_run: StrictBool = Field(False, description="Report what would be done, and change nothing")
    most: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = Field(
        None, description="Do it with at most so many of them in this call; null: with all"
    )
    before: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] | None = Field(
        None, description="`next` of the call before"
    )

    @model_validator(mode="after")
    def _require_a_criterion(self) -> Self:
        if not (self.ids or self.group or self.name or self.queue or self.tag or self.error or self.everything):
            raise ValueError("select by ids, group, name, queue, tag, error, or everything")
        return self


class BulkActionResponse(Response):
    """The outcome of an action on the selected dead letters, or of its dry run."""

    matched: int
    done: int
    dry_run: bool
    samples: list[str] = Field(description="Ids of some selected dead letters")
    refused: dict[str, str] = Field(description="Id → why nothing was done with this dead letter")
    next: int | None = Field(None, description="`before` of the next call; null when nothing is left")


class OpenAlertView(Response):
    """A problem that needs an operator."""

    message: str
    opened_at: datetime


class StatsResponse(Response):
    """Queues, tasks and workers at one moment, and recent statistics."""

    queues: dict[str, QueueFigures]
    tasks: dict[str, int] = Field(description="State → number of tasks in the whole history")
    unread_events: int = Field(description="Events that are not recorded yet")
    unread_limit: int = Field(description="A queue with this many unrecorded events takes no tasks (MAX_UNREAD_EVENTS)")
    workers: int
    unknown_queues: list[UnknownQueue] = Field(
        [], description="Queues of the broker that the application does not declare, as found within the last 30 s"
    )
    alerts: list[OpenAlertView] = Field(description="The open alerts of the last sweep, newest first")
    timestamp: datetime
    window: Window = Field(description="Statistics of the tasks that ended within a window of time")


class ClearResponse(Response):
    """The outcome of deleting tasks."""

    deleted: int
    more: bool = Field(description="The call reached its limit, and more tasks may match")
