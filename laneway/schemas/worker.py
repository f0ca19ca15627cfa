"""Workers, as they last reported, and the tasks that can be submitted."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from laneway.schemas.task import Response


class WorkerView(Response):
    """One worker."""

    name: str = Field(examples=["worker@host-1"])
    host: str = Field(description="The machine on which it runs; empty if an older version has reported")
    version: str = Field(description="The version of Laneway that it runs; empty if an older version has reported")
    memory: int | None = Field(description="Bytes of memory of all its processes (RSS); null: not reported")
    leases: int | None = Field(
        description="How many messages it holds: those that run, and those that wait in it. Null: not reported"
    )
    disk_free: float | None = Field(description="Free percent of the disk of its `DATA_DIR`; null: not reported")
    queues: list[str]
    running: list[str] = Field(description="Ids of the tasks that it runs now, the oldest first; at most 100")
    started_at: datetime
    seen_at: datetime = Field(description="Its last report")
    alive: bool = Field(description="Whether it reported recently")
    ended: str | None = Field(description="How it ended, if its supervisor saw that")


class WorkersResponse(Response):
    """The workers: the live ones, and those that are silent and have not signed off."""

    workers: list[WorkerView]


class TaskNameView(Response):
    """A task that can be submitted."""

    name: str
    queue: str


class TaskNamesResponse(Response):
    """The tasks that can be submitted, by name."""

    names: list[TaskNameView]
