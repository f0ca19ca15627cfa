"""The limits of queues as operators set and see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from laneway.platform.schemas.task import Response

LONGEST_PERIOD = 86_400
"""Seconds."""


def _number(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("must be a number")  # noqa: TRY004  Pydantic wants it so
    if value == 0:
        raise ValueError("must be at least 1; to start nothing at all, set paused")
    return value


Rate = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_number)]
InFlight = Annotated[int, Field(ge=1, le=100_000), BeforeValidator(_number)]
"""Whole numbers as JSON has them: 5.0 is one, "5" and true are none."""


class QueueLimits(BaseModel):
    """What a queue may do; all of it is replaced, and what is left out is no limit."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"rate": 10, "per_seconds": 60}]}
    )

    rate: Rate | None = Field(None, description="At most so many starts within per_seconds, spread evenly")
    per_seconds: float = Field(1, strict=True, ge=0.1, le=LONGEST_PERIOD, description="The period of rate, in seconds")
    max_in_flight: InFlight | None = Field(
        None, description="At most so many tasks with workers at a time, of all workers"
    )
    paused: StrictBool = Field(False, description="Start nothing until it is resumed; what runs goes on")


class QueueLimitsResponse(Response):
    """What a queue may do."""

    queue: str
    rate: int | None
    per_seconds: float
    max_in_flight: int | None
    paused: bool
    updated_at: datetime | None = Field(description="When an operator last said so; never: null")
    in_force: bool | None = Field(description="Whether the broker has it; null while the broker cannot be asked")


class QueueLimitsList(Response):
    """All queues."""

    queues: list[QueueLimitsResponse]
