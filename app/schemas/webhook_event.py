"""Events of inbound webhooks as the API and the command line show them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from app.schemas.webhook_choices import OPEN, EventState
from laneway.schemas.number import Whole
from laneway.schemas.payload import Payload
from laneway.schemas.task import Response

Filter = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class EventView(Response):
    """One event of a delivery, and what followed from it."""

    id: int = Field(description="Ids increase; pass the smallest as `before` to see earlier events")
    source: str
    event_id: str
    name: str = Field(description="What the source calls this kind of event; empty if it does not say")
    kind: str
    state: EventState
    reason: str | None = Field(default=None, description="Why the event is in quarantine")
    rule: str | None = Field(default=None, description="The rule of the mapping that decided")
    task_id: str | None = None
    problems: list[str] = Field(description="Fields that could not be read")
    delivery_id: str
    created_at: datetime


class EventDetails(EventView):
    """An event with its content."""

    data: dict[str, Any] = Field(description="The fields that were read, bounded")
    body: Any = Field(default=None, description="The event as received; null if its delivery does not hold it any more")


class EventPage(Response):
    """Events, newest first."""

    events: list[EventView]
    next: int | None = Field(default=None, description="`before` of the next page; null after the last one")


class EventFigure(Response):
    """The number of events of one source, name and state."""

    source: str
    name: str
    state: EventState
    count: int


class WebhookStatistics(Response):
    """How many deliveries and events are stored, and what became of them."""

    deliveries: dict[str, int] = Field(description="`queued` and `processed`")
    events: dict[EventState, int]
    by_name: list[EventFigure] = Field(description="The largest figures first, at most 200")
    timestamp: datetime


class EventSelection(Payload):
    """Which of the events without a task are replayed or discarded, oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"states": ["quarantined"], "source": "shop"}]})

    states: list[Literal[EventState.QUARANTINED, EventState.UNHANDLED]] = Field(
        default=list(OPEN), min_length=1, max_length=2
    )
    source: Filter | None = None
    name: Filter | None = None
    rule: Filter | None = None
    after: Whole = Field(default=0, ge=0, le=2**53, description="`next` of the previous answer")
    limit: Whole = Field(default=100, ge=1, le=500)


class ChangedEvents(Response):
    """What became of the replayed or discarded events."""

    matched: int = Field(description="Events that the selection matches, changed or not")
    changed: int = Field(description="Events that were replayed or discarded")
    states: dict[EventState, int] = Field(description="The states of these events now")
    events: list[EventView] = Field(description="The first of these events, at most 20")
    next: int | None = Field(default=None, description="`after` of the next request; null if nothing is left")


class RuleView(Response):
    """One rule of the mapping."""

    name: str
    source: list[str]
    event: list[str]
    when: list[str] = Field(description="The fields that it compares")
    task: str


class MappingView(Response):
    """The mapping in force."""

    file: str
    valid: bool = Field(description="False: the file is not valid, and the last valid mapping is in force")
    problem: str | None = None
    in_force: bool = Field(description="False: there never was a valid mapping; all events go to quarantine")
    rules: list[RuleView]
