"""Actions on many tasks at once: requests and responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import ConfigDict, Field, StrictBool, model_validator

from laneway.schemas.choices import PriorityName, TaskState
from laneway.schemas.model import Model
from laneway.schemas.moment import FilterMoment
from laneway.schemas.number import Whole
from laneway.schemas.task import Response
from laneway.schemas.text import Text

Count = Annotated[int, Field(strict=True, ge=1, le=1000)]
Place = Annotated[int, Field(strict=True, ge=0, le=2**53 - 1)]


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
    batch: Text | None = Field(None, description="The id of a batch")
    group: Text | None = Field(None, description="Tasks that failed the same way")
    error: Text | None = Field(None, description="A part of the error's text")
    text: Text | None = Field(None, description="A part of the payload or of the error, as it is stored")
    since: FilterMoment | None = Field(None, description="Accepted at this time or later")
    until: FilterMoment | None = Field(None, description="Accepted before this time")
    ended_since: FilterMoment | None = Field(None, description="Ended at this time or later")
    ended_until: FilterMoment | None = Field(None, description="Ended before this time")
    everything: StrictBool = Field(False, description="Required if nothing else selects")
    dry_run: StrictBool = Field(False, description="Report what would be done, and change nothing")
    most: Count = Field(1000, description="Do it with at most so many tasks in this call")
    before: Place | None = Field(None, description="`next` of the call before")
    action: Text | None = Field(None, description="`action` of the first call: what an undo takes back together")

    @model_validator(mode="after")
    def _require_a_criterion(self) -> Self:
        named = (self.name, self.queue, self.key, self.tag, self.batch, self.group, self.error, self.text)
        times = (self.since, self.until, self.ended_since, self.ended_until)
        if not (self.ids or self.state or any(named) or any(times) or self.everything):
            raise ValueError(
                "select by ids, state, name, queue, key, tag, batch, group, error, text, time, or everything"
            )
        return self


class PrioritySelection(TaskSelection):
    """Select tasks, and their new priority."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"queue": "emails", "priority": "low", "dry_run": True}]}
    )

    priority: PriorityName | Annotated[Whole, Field(ge=0, le=3)]


class TasksActionResponse(Response):
    """The outcome of an action on the selected tasks, or of its dry run."""

    matched: int = Field(description="Selected tasks on which the action is possible; at most 1000 a call")
    done: int
    dry_run: bool
    samples: list[str] = Field(description="Ids of some of them")
    refused: dict[str, str] = Field(description="Id → why nothing was done with this task")
    ids: list[str] = Field(description="Ids of those with which it was done")
    more: bool = Field(description="More tasks may match: repeat the call with `before`")
    next: int | None = Field(None, description="`before` of the next call; null when nothing is left")
    total: int | None = Field(default=None, description="Of a dry run: how many match; null: it was not counted")
    copies: dict[str, str] = Field(default_factory=dict, description="Id → id of the new task; of a replay")
    action: str | None = Field(default=None, description="What to name in an undo; null: it cannot be undone")
    undo_until: datetime | None = Field(default=None, description="Until when it can be undone")


class BulkActionView(Response):
    """An action on many tasks that can be, or could be, undone."""

    action: str
    kind: str = Field(description="cancel, reprioritise or replay")
    at: datetime
    by: str
    tasks: int = Field(description="How many tasks it has changed")
    undoable: int = Field(description="How many tasks an undo would look at now")
    undo_until: datetime
    undone_at: datetime | None
    undone_by: str | None


class BulkActionsResponse(Response):
    """The actions on many tasks of the last day, newest first."""

    actions: list[BulkActionView]


class UndoResponse(Response):
    """What an undo did."""

    action: str
    kind: str
    done: int
    refused: dict[str, str] = Field(description="Id → why this task stays as it is")
    more: bool = Field(description="The call reached its limit: repeat it for the rest")
