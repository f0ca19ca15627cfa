"""Signals that are sent to tasks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from laneway.schemas.model import Model
from laneway.schemas.task import Response


class TaskSignalRequest(Model):
    """Send a signal to a task. If the task waits several times for this name, give each signal an id of its own."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"data": {"approved_by": "Ada"}, "id": "first"}]}
    )

    data: dict[str, Any] = Field(default_factory=dict)
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@+=-]{1,64}$")] | None = None


class TaskSignalResponse(Response):
    """The outcome of a signal."""

    task_id: str
    signal: str
    created: bool = Field(description="False: the signal was sent before")
    awaited: bool = Field(description="True: the task waits for it now; false: it is kept until the task does")
