"""Routes of the events of inbound webhooks: what became of them, replay, figures, and the mapping in force."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.deps import ServicesDep
from app.db.queries.webhooks import EventFilter
from app.schemas.webhook_event import (
    ChangedEvents,
    EventDetails,
    EventPage,
    EventSelection,
    EventState,
    Filter,
    MappingView,
    WebhookStatistics,
)
from laneway.api.access import requires
from laneway.api.deps import OnlyKnown
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope

router = APIRouter(
    prefix="/webhooks", tags=["webhooks"], route_class=ThreadedRoute, dependencies=[requires(Scope.WEBHOOKS)]
)

EventNumber = Annotated[int, Path(ge=1, le=2**63 - 1, examples=[17])]
Text = Annotated[Filter | None, Query()]


@router.get("/events", responses=problems(), dependencies=[OnlyKnown])
def list_webhook_events(
    services: ServicesDep,
    state: Annotated[list[EventState] | None, Query(max_length=5)] = None,
    source: Text = None,
    name: Text = None,
    rule: Text = None,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> EventPage:
    """List the events, newest first. `unhandled` and `quarantined` ones have no task yet."""
    which = EventFilter(states=tuple(state or ()), source=source, name=name, rule=rule)
    return services.webhook_events.page(which, before=before, limit=limit)


@router.get("/events/{id:int}", responses=problems(404))
def show_webhook_event(id: EventNumber, services: ServicesDep) -> EventDetails:
    """Show one event with its content."""
    return services.webhook_events.show(id)


@router.post("/events/replay", responses=problems())
def replay_webhook_events(body: EventSelection, services: ServicesDep) -> ChangedEvents:
    """Decide again, by the mapping in force, what follows from the selected events without a task, oldest first."""
    return services.webhook_events.replay_many(body)


@router.post("/events/{id:int}/replay", responses=problems(404))
def replay_webhook_event(id: EventNumber, services: ServicesDep) -> ChangedEvents:
    """Decide again what follows from one event. An event that has its task keeps it, and nothing runs twice."""
    return services.webhook_events.replay(id)


@router.post("/events/discard", responses=problems())
def discard_webhook_events(body: EventSelection, services: ServicesDep) -> ChangedEvents:
    """Let nothing follow from the selected events without a task. A replay by id takes the decision back."""
    return services.webhook_events.discard_many(body)


@router.post("/events/{id:int}/discard", responses=problems(404))
def discard_webhook_event(id: EventNumber, services: ServicesDep) -> ChangedEvents:
    """Let nothing follow from one event. An event that has its task keeps it."""
    return services.webhook_events.discard(id)


@router.get("/statistics", responses=problems())
def show_webhook_statistics(services: ServicesDep) -> WebhookStatistics:
    """How many deliveries and events are stored, by what became of them, source and name."""
    return services.webhook_events.statistics()


@router.get("/mapping", responses=problems())
def show_webhook_mapping(services: ServicesDep) -> MappingView:
    """The mapping of events to tasks that is in force, and what is wrong with its file."""
    return services.webhook_events.mapping()
