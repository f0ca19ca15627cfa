"""The arguments of a task: the base of every payload, and the payloads that the platform itself defines."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,127}$")]
"""An id that a caller chose: at most 128 letters, digits and ``._:@+=-``, the first one a letter or digit."""


class Payload(BaseModel):
    """The arguments of a task. Unknown fields are refused, so that a misspelt name is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EndedTask(Payload):
    """The payload of an `on_failure` task (`TaskSpec.on_failure`): it names the task that ended without completing."""

    task_id: str = Field(max_length=155)
    run: int = Field(description="Number of its attempts so far; higher when the task ends again after a retry by hand")


class Wake(Payload):
    """The payload of the task that wakes others: what they wait for has happened."""

    kind: str = Field(max_length=16)
    targets: tuple[Annotated[str, StringConstraints(max_length=320)], ...] = Field(max_length=1_000)
    asked_at: datetime


class EmptyPayload(Payload):
    """The payload of a task without arguments."""
