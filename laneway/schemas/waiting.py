"""Why a task waits, and when it is expected to start and to end."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from laneway.schemas.choices import TaskState
from laneway.schemas.forecast import Forecast
from laneway.schemas.task import Response


class CauseKind(StrEnum):
    """What a waiting task waits for."""

    BROKER = "broker"
    OUTBOX = "outbox"
    PAUSED = "paused"
    LOST_MESSAGE = "lost_message"
    NEWER_VERSION = "newer_version"
    KEY = "key"
    LIMIT = "limit"
    LABELS = "labels"
    KNOWING_WORKER = "knowing_worker"
    AWAITED = "awaited"
    DUE_TIME = "due_time"
    NO_WORKER = "no_worker"
    IN_FLIGHT = "in_flight"
    RATE = "rate"
    LINE = "line"


class LimitHolderView(Response):
    """A task that has points of a limit."""

    task_id: str
    name: str | None = Field(description="Null if its row is gone")
    queue: str
    since: datetime | None = Field(description="When it started; null: a worker has taken it and not started it yet")
    worker: str | None
    lease_until: datetime = Field(description="When its lease ends, unless its worker renews it")


class Cause(Response):
    """One thing that a task waits for."""

    kind: CauseKind
    text: str = Field(description="It completes the sentence: The task waits for …")
    detail: str | None = Field(default=None, description="More about it, such as who holds the key")
    since: datetime | None = None
    until: datetime | None = Field(default=None, description="When it ends, if that is known")
    expected: datetime | None = Field(
        default=None, description="When it probably ends, by how long such tasks ran lately; `until` is null then"
    )
    limit: str | None = Field(default=None, description="The name of the limit, of a cause `limit`")
    holders: list[LimitHolderView] = Field(
        default_factory=list["LimitHolderView"],
        description="The tasks that have the points of a limit which is used up by running tasks, at most 20",
    )
    by: str | None = Field(default=None, description="Who caused it: the operator who paused the queue")
    task_id: str | None = Field(default=None, description="The task that has to be over first")


class WhyResponse(Response):
    """Why a task waits, and when it is expected to start and to end."""

    task_id: str
    name: str
    queue: str
    status: TaskState
    causes: list[Cause] = Field(description="Every cause that holds, the strongest first; empty if it does not wait")
    ahead: int | None = Field(description="Tasks of its queue that go before it; null if it has no place in the line")
    forecast: Forecast | None
    no_forecast: str | None = Field(description="Why there is no forecast; null if there is one")
