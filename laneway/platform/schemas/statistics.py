"""How the work went lately: figures of what ended within a window of time."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from laneway.platform.schemas.task import Response

LONGEST_WINDOW = 30 * 86_400
"""Seconds."""


class Durations(Response):
    """How long something took, in seconds, over `count` times that it was measured."""

    count: int
    mean: float | None
    p50: float | None
    p95: float | None


class Performance(Response):
    """The tasks of one queue, one type or all of them that ended within the window."""

    completed: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    retried: int = Field(description="Started more than once")
    success_rate: float | None = Field(description="Completed, of completed, failed and dead; 0 to 1")
    throughput: float = Field(description="Completed per second")
    waiting_seconds: Durations = Field(description="Due to last started: a delay is no waiting")
    processing_seconds: Durations = Field(description="Last start to end")


class Window(Response):
    """What ended within a window of time, measured in the database."""

    seconds: float = Field(description="How long the window is")
    since: datetime = Field(description="Its begin: later than asked for where more ended than are counted")
    measured_since: datetime = Field(description="From when on durations are measured: they take the newest ones only")
    until: datetime
    total: Performance
    queues: dict[str, Performance] = Field(description="Queues in which something ended")
    types: dict[str, Performance] = Field(description="Task names of which something ended")
