"""What operators do with many tasks at once: requests and responses."""

from __future__ import annotations

from pydantic import ConfigDict, Field, StrictBool

from laneway.schemas.choices import TaskState
from laneway.schemas.model import Model
from laneway.schemas.overlap import A_CENTURY
from laneway.schemas.task import Response
from laneway.schemas.text import Text


class FlushRequest(Model):
    """The queue whose waiting tasks to cancel."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"queue": "emails", "dry_run": True}]})

    queue: Text
    dry_run: StrictBool = Field(False, description="Count the waiting tasks, and change nothing")


class FlushResponse(Response):
    """How many waiting tasks a queue had, and how many were cancelled."""

    queue: str
    waiting: int
    cancelled: int
    dry_run: bool


class TakeInRequest(Model):
    """A name under which other programs have sent tasks."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"queue": "e-mails"}]})

    queue: Text


class TakeInResponse(Response):
    """How many tasks were queued."""

    taken: int


class CleanupRequest(Model):
    """What to delete."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"tasks_older_than": 172_800}]})

    tasks_older_than: float | None = Field(
        None,
        strict=True,
        ge=0,
        le=A_CENTURY,
        description="Delete tasks that ended more than this many seconds ago; null: as RETENTION_DAYS_TASKS says",
    )


class CleanupResponse(Response):
    """How many rows of each kind were deleted or emptied."""

    deleted: dict[str, int]


class TaskRuleView(Response):
    """A rule for finished tasks, and how many of them are older than it allows."""

    state: TaskState | None = Field(default=None, description="The state in which they ended; null: any")
    queue: str | None = Field(default=None, description="Their queue; null: each queue without a rule of its own")
    name: str | None = Field(default=None, description="Their name; null: each name without a rule of its own")
    days: float = Field(description="For how many days they are kept")
    setting: str = Field(description="The setting that says so")
    expired: int = Field(description="How many a clean-up would delete now")


class OtherRuleView(Response):
    """For how long other data is kept."""

    kind: str
    days: float


class RetentionView(Response):
    """Which rules are in force. Each finished task belongs to one rule: the most exact one."""

    tasks: list[TaskRuleView]
    others: list[OtherRuleView]
