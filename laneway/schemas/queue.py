"""The limits of queues: requests and responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool

from laneway.schemas.model import Model
from laneway.schemas.task import Response

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
"""A whole number in JSON: 5.0 is accepted, "5" and true are not."""


class QueueLimits(Model):
    """The limits of a queue. They replace all its limits; a limit that is left out is removed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"rate": 10, "per_seconds": 60}]}
    )

    rate: Rate | None = Field(None, description="Most starts of tasks within `per_seconds`; they are spread evenly")
    per_seconds: float = Field(
        1, strict=True, ge=0.1, le=LONGEST_PERIOD, description="The period of `rate`, in seconds"
    )
    max_in_flight: InFlight | None = Field(None, description="Tasks that all workers together may hold at a time")
    max_wait_seconds: float | None = Field(
        None, strict=True, ge=1, le=2_592_000, description="Tasks that have waited for longer go before all priorities"
    )
    paused: StrictBool = Field(False, description="Start no task until the queue is resumed; running tasks go on")


class QueueLimitsResponse(Response):
    """The limits of one queue."""

    queue: str
    rate: int | None
    per_seconds: float
    max_in_flight: int | None
    max_wait_seconds: float | None
    paused: bool
    updated_at: datetime | None = Field(description="When an operator last set the limits; null: never")
    in_force: bool | None = Field(
        description="Whether the broker applies the limits; null while the broker is unavailable"
    )


class UnknownQueue(Response):
    """A queue of the broker that holds messages and that the application does not declare."""

    queue: str
    waiting: int = Field(description="Messages that no worker holds")
    running: int = Field(description="Messages that a worker holds, which is then one of another application")
    dead: int = Field(description="Dead letters")
    oldest_at: datetime | None = Field(description="When the oldest of the next messages was put; null: only dead ones")
    tasks: list[str] = Field(description="Names of some of their tasks; those that the application has come first")
    advice: str = Field(description="What to do")

    def __str__(self) -> str:
        number = self.waiting + self.running + self.dead
        held = "1 message is" if number == 1 else f"{number} messages are"
        named = f" (tasks: {', '.join(self.tasks)})" if self.tasks else ""
        since = f", the oldest since {self.oldest_at:%Y-%m-%d %H:%M:%S}Z" if self.oldest_at else ""
        return (
            f"{held} in the queue {self.queue!r}{named}, which this application does not declare{since}. {self.advice}"
        )


class QueueLimitsListResponse(Response):
    """The limits of all queues."""

    queues: list[QueueLimitsResponse]
    unknown: list[UnknownQueue] = Field(
        [], description="Queues of the broker that the application does not declare, as found within the last 30 s"
    )
