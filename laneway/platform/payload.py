"""What a task is called with: the base of every payload, and the payloads that the platform itself defines."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,127}$")]
"""An id chosen by a caller: letters, digits and ``._:@+=-``, at most 128, starting with a letter or digit."""


class Payload(BaseModel):
    """What a task is called with; unknown fields are refused, so that a typing error is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EndedTask(Payload):
    """Payload of the tasks that look after those which ended without being completed (`TaskSpec.on_failure`)."""

    task_id: str = Field(max_length=155)
    run: int = Field(description="Its attempts so far: a task that is run again by hand may end again")


class Nothing(Payload):
    """The payload of a task that needs none."""
