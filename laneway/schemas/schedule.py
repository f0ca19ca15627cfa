"""Schedules: what they submit, when, and what became of their firings."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from laneway.schemas.choices import PriorityName

LONGEST_JITTER: Final = 86_400.0
LONGEST_INTERVAL: Final = 366 * 86_400.0
DEFAULT_WINDOW: Final = 3600.0


MAX_KEY: Final = 100
ScheduleKey = Annotated[str, Field(min_length=1, max_length=MAX_KEY, pattern=r"^[A-Za-z0-9._-]+$")]


class ScheduleSource(StrEnum):
    """Where a schedule comes from."""

    CODE = "code"
    OPERATOR = "operator"


class FiringOutcome(StrEnum):
    """What became of a due time."""

    SENT = "sent"
    SKIPPED = "skipped"
    MISSED = "missed"
    REFUSED = "refused"


class Missed(StrEnum):
    """What happens to firings that came due while no scheduler could act."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(StrEnum):
    """What happens to a firing while a task of an earlier one has not ended."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"


class ScheduleDefinition(BaseModel):
    """What a schedule submits, and when."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"task": "send_report_task", "cron": "0 6 * * mon-fri"}]},
    )

    task: str = Field(min_length=1, max_length=255, description="Name of the task")
    payload: dict[str, Any] = Field(default_factory=dict[str, Any], description="Payload of each task")
    cron: str | None = Field(
        default=None,
        max_length=200,
        description="Minute, hour, day of month, month, day of week, such as `*/15 8-18 * * mon-fri`. Either this or "
        "`every`",
    )
    every: float | None = Field(
        default=None,
        strict=True,
        ge=1,
        le=LONGEST_INTERVAL,
        description="Seconds between two firings, counted from `start`",
    )
    weekdays: list[Annotated[int, Field(strict=True, ge=0, le=6)]] | None = Field(
        default=None,
        min_length=1,
        description="Days on which `cron` must fall as well; 0 is Sunday",
    )
    timezone: str = Field(default="UTC", max_length=64, description="IANA time zone in which `cron` is read")
    start: AwareDatetime | None = Field(default=None, description="There is no firing before this time")
    end: AwareDatetime | None = Field(default=None, description="There is no firing after this time")
    jitter: float = Field(
        default=0,
        strict=True,
        ge=0,
        le=LONGEST_JITTER,
        description="Most seconds by which a firing is delayed; each firing has a delay of its own, which is fixed",
    )
    missed: Missed = Field(
        default=Missed.ONCE,
        description="Firings that came due while no scheduler could act: `skip` leaves them out, `once` sends the "
        "last one, `all` sends those of the last `window` seconds",
    )
    window: float = Field(
        default=DEFAULT_WINDOW,
        strict=True,
        ge=1,
        le=LONGEST_INTERVAL,
        description="Seconds that `all` of `missed` looks back",
    )
    overlap: Overlap = Field(
        default=Overlap.ALLOW,
        description="While a task of an earlier firing has not ended: `allow` runs both, `skip` leaves the new firing "
        "out, `queue` runs one after the other, `replace` cancels the earlier one",
    )
    queue: str | None = Field(default=None, max_length=64, description="Default: the queue of the task")
    priority: PriorityName | None = Field(default=None, description="Default: the priority of the task")
    expires: float | None = Field(
        default=None,
        strict=True,
        gt=0,
        le=LONGEST_INTERVAL,
        description="Seconds after which a task that did not start is dropped",
    )


class ScheduleRequest(ScheduleDefinition):
    """A new schedule."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"key": "reports.nightly", "task": "send_report_task", "cron": "0 6 * * mon-fri"}]
        }
    )

    key: ScheduleKey = Field(description="Name of the schedule", examples=["reports.nightly"])


class FiringView(BaseModel):
    """What became of one due time."""

    due_at: datetime = Field(description="When it was due, or asked for")
    outcome: FiringOutcome = Field(
        description="`sent`; `skipped`: an earlier task had not ended; `missed`: no scheduler acted in time; "
        "`refused`: the reason is in `reason`"
    )
    task_id: str | None = Field(default=None, description="Id of the task that was sent")
    reason: str | None = Field(default=None, description="Why no task was sent")
    decided_at: datetime = Field(description="When the scheduler acted")
    asked_by: str | None = Field(default=None, description="Who had the schedule run at once; null: it was due")


class ScheduleSummary(BaseModel):
    """A schedule in a list."""

    key: str = Field(description="Name of the schedule")
    source: ScheduleSource = Field(description="`code`: the application lists it; `operator`: made by API or CLI")
    task: str | None = Field(description="Name of the task; null: the definition cannot be read")
    when: str | None = Field(description="The times, for people")
    paused_at: datetime | None = Field(description="Since when it is paused; null: it is not")
    paused_by: str | None = Field(description="Who paused it")
    next_at: datetime | None = Field(description="When it fires next; null: never, or it is paused")
    last_due_at: datetime | None = Field(description="The last due time for which a task was sent")
    problem: str | None = Field(description="Why nothing was sent at the last due time")
    changed_at: datetime = Field(description="When it was made or changed")
    changed_by: str | None = Field(description="The operator who did; null: the application's code")


class ScheduleView(ScheduleSummary):
    """A schedule with its next and last firings."""

    definition: ScheduleDefinition | None = Field(description="What it submits, and when")
    upcoming: list[datetime] = Field(description="When the next ten firings act")
    firings: list[FiringView] = Field(description="The last ten firings, the newest first")


class SchedulesResponse(BaseModel):
    """The schedules, by key."""

    schedules: list[ScheduleSummary]
    beat_runs: bool = Field(description="Whether a Beat leads and sends them")


class SchedulePreview(BaseModel):
    """When a schedule would fire."""

    when: str = Field(description="The times, for people")
    upcoming: list[datetime] = Field(description="When the first ten firings would act")


class RunResponse(BaseModel):
    """A schedule that was run at once."""

    task_id: str = Field(description="Id of the task")
