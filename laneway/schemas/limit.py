"""Limits with names, which tasks share: requests and responses."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import ConfigDict, Field

from laneway.schemas.model import Model
from laneway.schemas.queue import LONGEST_PERIOD, InFlight, Rate
from laneway.schemas.task import Response


class LimitSource(StrEnum):
    """Who has set a limit."""

    CODE = "code"
    OPERATOR = "operator"
    NOBODY = "nobody"


class NamedLimitRequest(Model):
    """What a limit lets through. It replaces all values; a value that is left out is no limit."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"rate": 10, "per_seconds": 1, "burst": 2}]}
    )

    rate: Rate | None = Field(None, description="Most points that are taken within `per_seconds`, spread evenly")
    per_seconds: float = Field(
        1, strict=True, ge=0.1, le=LONGEST_PERIOD, description="The period of `rate`, in seconds"
    )
    burst: Rate = Field(1, description="So many points may be taken at once after a pause")
    max_running: InFlight | None = Field(None, description="Points that running tasks may hold at a time")


class NamedLimitView(Response):
    """A limit, and how it stands. Each key of the tasks is counted alone."""

    name: str = Field(description="`task:NAME` is the limit of all runs of one task")
    rate: int | None
    per_seconds: float
    burst: int
    max_running: int | None
    source: LimitSource = Field(description="code: as the tasks declare it; operator: as an operator has set it")
    tasks: list[str] = Field(description="The tasks that use it")
    updated_at: datetime | None = Field(description="When an operator last set it; null: never")
    queues: list[str] = Field(default_factory=list, description="The queues of these tasks, and those where tasks wait")
    running: int | None = Field(description="Points of running tasks, of all keys; null while the broker is away")
    waiting: int | None = Field(description="Tasks that wait for it")
    blocked_until: datetime | None = Field(description="Until then it lets nothing through: a task has asked for that")
    opens_at: datetime | None = Field(
        default=None,
        description="When it lets a point through again, of the key that has used most; null: now, or when a running "
        "task ends",
    )
    in_force: bool | None = Field(description="Whether the broker applies it; null while the broker is away")


class NamedLimitsResponse(Response):
    """All limits with names."""

    limits: list[NamedLimitView]
