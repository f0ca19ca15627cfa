"""Deliveries of outbound webhooks, with filters that live in the address, and one delivery with its attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, OnlyKnown, ServicesDep
from laneway.console.parameters import Before, Moment, Word, moment_text
from laneway.console.rendering import PageRoute, Pages
from laneway.console.values import shown_value
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
from laneway.platform.errors import NotFound
from laneway.platform.logging import without_secrets
from laneway.platform.platform import Platform
from laneway.platform.webhooks.views import describe_delivery, describe_details, describe_endpoint
from laneway.schemas.outbound_webhook import DeliveryAttemptView, EndpointView
from laneway.schemas.task import FAILURES, FINISHED, UNFINISHED, TaskState

router = APIRouter(
    prefix="/console/webhooks/deliveries",
    include_in_schema=False,
    route_class=PageRoute,
    dependencies=[requires(Scope.WEBHOOKS)],
)
pages = Pages()

PAGE: Final = 50
GROUPS: Final[dict[str, tuple[TaskState, ...]]] = {
    "to come": UNFINISHED,
    "delivered": (TaskState.COMPLETED,),
    "failed": FAILURES,
    "cancelled": (TaskState.CANCELLED, TaskState.EXPIRED),
}
"""Names for the states of deliveries."""
DeliveryName = Annotated[str, Path(min_length=1, max_length=155, pattern=NO_NULL)]


@router.get("", dependencies=[OnlyKnown])
async def show_deliveries(
    request: Request,
    services: ServicesDep,
    endpoint: Word = "",
    event: Word = "",
    state: Annotated[list[TaskState] | None, Query()] = None,
    since: Moment = None,
    until: Moment = None,
    before: Before = None,
) -> Response:
    """Deliveries, newest first. The times are those at which their tasks started first."""
    given: dict[str, Any] = {"endpoint": endpoint, "event": event, "state": [each.value for each in state or ()]}
    given |= {"since": moment_text(since), "until": moment_text(until)}
    selected = DeliveryFilter(
        endpoint=endpoint or None,
        event=event or None,
        states=tuple(state or ()),
        since=clock.aware(since),
        until=clock.aware(until),
    )
    values = partial(_deliveries, services, given, selected, before)
    return await pages.show(request, "deliveries.html", values, live=before is None)


@router.get("/{delivery_id:path}")
async def show_delivery(delivery_id: DeliveryName, request: Request, services: ServicesDep) -> Response:
    """One delivery: its attempts with the receiver's responses, and the body."""
    return await pages.show(request, "delivery.html", partial(_delivery, services, delivery_id))


def _deliveries(
    services: Platform, given: Mapping[str, Any], selected: DeliveryFilter, before: int | None
) -> Mapping[str, Any]:
    found, following = services.delivery_log.scan(selected, before=before, limit=PAGE)
    return {
        "deliveries": [describe_delivery(each) for each in found],
        "next": following,
        "before": before,
        "most": PAGE,
        "given": given,
        "chosen": {name: value for name, value in given.items() if value},
        "groups": {name: [state.value for state in states] for name, states in GROUPS.items()},
        "over": FINISHED,
        "receiver": _receiver(services, given["endpoint"]) if given["endpoint"] else None,
        "selection": _selection(given, selected.states),
    }


def _selection(given: Mapping[str, Any], states: Sequence[TaskState]) -> dict[str, str] | None:
    """The failed ones of these deliveries as the body of a replay; None if a replay cannot select them."""
    if set(states) not in (set(), set(FAILURES)) or not (given["endpoint"] or given["since"]):
        return None
    return {name: given[name] for name in ("endpoint", "event", "since", "until") if given[name]}


def _delivery(services: Platform, id: str) -> Mapping[str, Any]:
    details = describe_details(services.delivery_log.show(id))
    return {
        "delivery": details.delivery,
        "attempts": [_attempt(each) for each in details.attempts],
        "body": shown_value(json.loads(details.body)),
        "receiver": _receiver(services, details.delivery.endpoint_id),
        "is_over": details.delivery.state in FINISHED,
    }


def _attempt(attempt: DeliveryAttemptView) -> dict[str, Any]:
    return {"view": attempt, "answer": without_secrets(attempt.answer)}


def _receiver(services: Platform, id: str) -> EndpointView | None:
    try:
        return describe_endpoint(services.outbound_webhooks.endpoint(id))
    except NotFound:  # nothing was sent to it for so long that it was deleted
        return None
