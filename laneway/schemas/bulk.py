"""Actions on many tasks at once: requests and responses."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import ConfigDict, Field, StrictBool, model_validator

from laneway.schemas.choices import TaskState
from laneway.schemas.model import Model
from laneway.schemas.moment import FilterMoment
from laneway.schemas.task import Response
from laneway.schemas.text import Text


class TaskSelection(Model):
    """Select tasks by id or by properties. All that are given must hold."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"queue": "emails", "state": ["pending"], "dry_run": True}]}
    )

    ids: list[Text] = Field(default_factory=list, max_length=1000)
    state: list[TaskState] = Field(default_factory=list, max_length=len(TaskState))
    name: Text | None = None
    queue: Text | None = None
    key: Text | None = None
    tag: Text | None = None
    group: Text | None = Field(None, description="Tasks that failed the same way")
    error: Text | None = Field(None, description="A part of the error's text")
    text: Text | None = Field(None, description="A part of the payload or of the error, as it is stored")
    since: FilterMoment | None = Field(None, description="Accepted at this time or later")
    until: FilterMoment | None = Field(None, description="Accepted before this time")
    everything: StrictBool = Field(False, description="Required if nothing else selects")
    dry_run: StrictBool = Field(False, description="Report what would be done, and change nothing")

    @model_validator(mode="after")
    def _require_a_criterion(self) -> Self:
        named: tuple[str | datetime | None, ...] = (self.name, self.queue, self.key, self.tag, self.group, self.error)
        if not (self.ids or self.state or any(named) or self.text or self.since or self.until or self.everything):
            raise ValueError("select by ids, state, name, queue, key, tag, group, error, text, time, or everything")
        return self


class TasksActionResponse(Response):
    """The outcome of an action on the selected tasks, or of its dry run."""

    matched: int = Field(description="Selected tasks on which the action is possible; at most 1000 a call")
    done: int
    dry_run: bool
    samples: list[str] = Field(description="Ids of some of them")
    refused: dict[str, str] = Field(description="Id → why nothing was done with this task")
    ids: list[str] = Field(description="Ids of those with which it was done")
    more: bool = Field(description="More tasks may match: repeat the call")
