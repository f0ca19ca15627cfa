"""Outbound webhooks: who receives them, the destinations that allow it, and one receiver with its deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.api.routers.destinations import After
from laneway.api.routers.outbound_webhooks import EndpointId
from laneway.console.parameters import EMPTY_IS_NONE, Word
from laneway.console.rendering import PageRoute, Pages
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
from laneway.platform.platform import Platform
from laneway.platform.webhooks.delivery_log import RECENT
from laneway.platform.webhooks.views import describe_delivery, describe_destination, describe_endpoint
from laneway.schemas.outbound_webhook import EndpointState
from laneway.schemas.task import FINISHED

router = APIRouter(
    prefix="/console/webhooks",
    include_in_schema=False,
    route_class=PageRoute,
    dependencies=[requires(Scope.WEBHOOKS)],
)
navigation = (NavigationEntry("Webhooks", "/console/webhooks", "h", Scope.WEBHOOKS),)
pages = Pages()

RECEIVERS: Final = 100
"""Receivers that are shown, the most recently used ones."""
NEWEST: Final = 20
"""Deliveries on the page of a receiver."""
DESTINATIONS: Final = 50
"""Destinations on a page."""


@router.get("", dependencies=[OnlyKnown])
async def show_receivers(
    request: Request,
    services: ServicesDep,
    state: Annotated[EndpointState | None, EMPTY_IS_NONE, Query()] = None,
    url: Word = "",
) -> Response:
    """The receivers, the most recently used first. `url` is a part of the address."""
    return await pages.show(request, "receivers.html", partial(_receivers, services, state, url))


@router.get("/receivers/{endpoint_id}")
async def show_receiver(endpoint_id: EndpointId, request: Request, services: ServicesDep) -> Response:
    """One receiver with its newest deliveries."""
    return await pages.show(request, "receiver.html", partial(_receiver, services, endpoint_id))


@router.get("/destinations", dependencies=[OnlyKnown])
async def show_destinations(request: Request, services: ServicesDep, after: After = "") -> Response:
    """The destinations by name, without their secrets."""
    return await pages.show(request, "destinations.html", partial(_destinations, services, after), live=not after)


def _receivers(services: Platform, state: EndpointState | None, url: str) -> Mapping[str, Any]:
    found = services.outbound_webhooks.endpoints(state=state, url=url or None, limit=RECEIVERS)
    return {
        "receivers": [describe_endpoint(each) for each in found],
        "events": services.delivery_log.recent_events(),
        "recent": RECENT,
        "most": RECEIVERS,
        "given": {"state": state, "url": url},
        "states": list(EndpointState),
    }


def _receiver(services: Platform, id: str) -> Mapping[str, Any]:
    receiver = describe_endpoint(services.outbound_webhooks.endpoint(id))
    newest = services.delivery_log.page(DeliveryFilter(endpoint=id), limit=NEWEST)
    return {
        "receiver": receiver,
        "deliveries": [describe_delivery(each) for each in newest],
        "most": NEWEST,
        "over": FINISHED,
    }


def _destinations(services: Platform, after: str) -> Mapping[str, Any]:
    page = services.destinations.page(after=after, limit=DESTINATIONS)
    return {
        "destinations": [describe_destination(each) for each in page],
        "after": after,
        "next": page[-1].name if len(page) == DESTINATIONS else None,
        "has_own": bool(services.settings.outbound.url),
    }
