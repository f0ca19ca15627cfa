"""Feeds: the events of many tasks."""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic import Field

from laneway.schemas.task import EventView, Response

GONE: Final = "gone"
"""Some events that the reader has not seen are deleted. No event of a task has this kind."""
POSITION: Final = "position"
"""Where a feed is: the reader continues there. No event of a task has this kind."""


class FeedEvent(EventView):
    """One event of a task in a feed; or, with the kind `gone` or `position`, what the feed says of itself.

    `gone`: events up to the id `data.before` were deleted before they were sent; `data.reason` says why.
    """

    task_id: str | None = Field(default=None, description="The task; null if the feed itself says something")
    name: str | None = Field(default=None, description="The name of the task")
    queue: str | None = Field(default=None, description="The queue of the task")
    tags: list[str] = Field(default_factory=list, description="The tags of the task")
    workflow: str | None = Field(default=None, description="The workflow run to which the task belongs")
    batch: str | None = Field(
        default=None, description="The batch of the task; else the field is missing", exclude_if=lambda id: id is None
    )


class OutputChunk(Response):
    """One chunk of the output of a task."""

    attempt: int
    """The number of the attempt. A retry writes its output anew."""
    number: int
    """Counts from 0 in each attempt. A gap: the broker had no room for the chunks between."""
    value: Any
    """What the task has written: a text, or any JSON value."""
    event_id: int
    """The event with which it came. To go on after it, give this as `after`."""


def chunks_of(event: EventView) -> list[OutputChunk]:
    """The chunks in an event of the kind `output`."""
    found, first = event.data.get("chunks"), int(event.data.get("first") or 0)
    values = cast("list[Any]", found) if isinstance(found, list) else [found]
    return [
        OutputChunk(attempt=event.attempt or 0, number=number, value=value, event_id=event.id)
        for number, value in enumerate(values, first)
    ]
