"""The events that inbound webhooks brought: what followed from each, and replay and discard of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api.deps import ServicesDep
from app.api.routers.webhook_events import EventNumber
from app.console.shown import GROUP, PAGE, Word, pages, rights
from app.db.queries.webhooks import EventFilter
from app.schemas.webhook_event import OPEN, EventState
from app.services.container import Services
from laneway.api.access import requires
from laneway.api.deps import OnlyKnown
from laneway.api.navigation import NavigationEntry
from laneway.api.parameters import LAST_ID
from laneway.console.rendering import PageRoute
from laneway.console.values import shown_value
from laneway.platform.access.scopes import Scope
from laneway.platform.logging import without_secrets

router = APIRouter(
    prefix="/console/webhook-events",
    include_in_schema=False,
    route_class=PageRoute,
    dependencies=[requires(Scope.WEBHOOKS)],
)
navigation = (NavigationEntry("Inbound events", "/console/webhook-events", "i", Scope.WEBHOOKS, GROUP),)

MEANINGS: Final = {
    EventState.HANDLED: "Its task was submitted.",
    EventState.UNHANDLED: "No rule of the mapping is for it, so nothing followed.",
    EventState.QUARANTINED: "It is in quarantine: nothing follows until somebody decides.",
    EventState.DISCARDED: "An operator decided that nothing follows.",
    EventState.TEST: "Its sender marked it as a test, so nothing followed.",
}


@router.get("", dependencies=[OnlyKnown])
async def show_webhook_events(
    request: Request,
    services: ServicesDep,
    state: Annotated[list[EventState] | None, Query(max_length=5)] = None,
    source: Word = "",
    name: Word = "",
    rule: Word = "",
    before: Annotated[int | None, Query(ge=0, le=LAST_ID)] = None,
) -> Response:
    """Events, newest first."""
    given = {"source": source, "name": name, "rule": rule}
    values = partial(_list_values, services, state or [], given, before)
    return await pages.show(request, "webhook_events.html", values, live=before is None)


@router.get("/{number:int}", dependencies=[OnlyKnown])
async def show_webhook_event_page(number: EventNumber, request: Request, services: ServicesDep) -> Response:
    """An event."""
    return await pages.show(request, "webhook_event.html", partial(_values, services, number))


def _list_values(
    services: Services, states: Sequence[EventState], given: Mapping[str, str], before: int | None
) -> Mapping[str, Any]:
    chosen = {name: value for name, value in given.items() if value}
    page = services.webhook_events.page(EventFilter(states=tuple(states), **chosen), before=before, limit=PAGE)
    mapping = services.webhook_events.mapping()
    return {
        "events": page.events,
        "reasons": {event.id: without_secrets(event.reason) for event in page.events},
        "next": page.next,
        "before": before,
        "given": {**given, "state": [state.value for state in states]},
        "chosen": chosen,
        "states": list(EventState),
        "open": [state.value for state in OPEN],
        "mapping": mapping,
        **rights(),
    }


def _values(services: Services, number: int) -> Mapping[str, Any]:
    event = services.webhook_events.show(number)
    return {
        "event": event,
        "meaning": MEANINGS[event.state],
        "reason": without_secrets(event.reason),
        "problems": without_secrets(event.problems),
        "data": shown_value(event.data),
        "body": shown_value(event.body),
        "may_decide": event.task_id is None,
        "is_discarded": event.state is EventState.DISCARDED,
        **rights(),
    }
