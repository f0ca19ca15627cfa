"""Statistics of the tasks that ended within a window of time."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from laneway.schemas.task import Response

LONGEST_WINDOW = 30 * 86_400
"""Seconds."""


class Durations(Response):
    """Statistics of durations, in seconds."""

    count: int = Field(description="Number of durations that were measured")
    mean: float | None
    p50: float | None
    p95: float | None


class Performance(Response):
    """Figures of the tasks that ended within the window: of all tasks, of one queue, or of one name."""

    completed: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    retried: int = Field(description="Tasks that were started more than once")
    success_rate: float | None = Field(description="Completed / (completed + failed + dead), from 0 to 1")
    throughput: float = Field(description="Completed tasks per second")
    waiting_seconds: Durations = Field(description="From the moment when the task could start to its last start")
    processing_seconds: Durations = Field(description="From the last start to the end")


class Window(Response):
    """The tasks that ended within a window of time, measured in the database."""

    seconds: float = Field(description="Length of the window")
    since: datetime = Field(
        description="Start of the window; later than requested if more tasks ended than are counted"
    )
    measured_since: datetime = Field(description="Durations cover only the newest tasks: those that ended since then")
    until: datetime
    total: Performance
    queues: dict[str, Performance] = Field(description="Queues in which a task ended")
    types: dict[str, Performance] = Field(description="Names of tasks that ended")
