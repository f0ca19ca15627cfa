"""Outbound webhooks: the log of deliveries, replays, and the receivers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, ServicesDep
from laneway.api.errors import problems
from laneway.api.parameters import Short, Timestamp
from laneway.api.threads import ThreadedRoute
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
from laneway.platform.webhooks.views import (
    describe_delivery,
    describe_details,
    describe_endpoint,
    describe_replay,
    replay_filter,
)
from laneway.schemas.outbound_webhook import (
    DeliveryDetailsView,
    DeliveryPage,
    EndpointsResponse,
    EndpointState,
    EndpointView,
    ReplayRequest,
    ReplayResponse,
)
from laneway.schemas.task import TaskHandle, TaskState

router = APIRouter(
    prefix="/api/callbacks", tags=["callbacks"], route_class=ThreadedRoute, dependencies=[requires(Scope.WEBHOOKS)]
)

DeliveryId = Annotated[str, Path(min_length=1, max_length=155, pattern=NO_NULL, examples=["message:5f0c:notify"])]
EndpointId = Annotated[
    str, Path(min_length=1, max_length=64, pattern=NO_NULL, examples=["5d0c6a1f3b7e9a245d0c6a1f3b7e9a24"])
]


@router.get("/deliveries", responses=problems())
def list_deliveries(
    services: ServicesDep,
    endpoint: Annotated[Short, Query(description="The endpoint's id")] = None,
    event: Short = None,
    state: Annotated[list[TaskState] | None, Query()] = None,
    since: Annotated[Timestamp | None, Query(description="First attempted at this time or later")] = None,
    until: Annotated[Timestamp | None, Query(description="First attempted before this time")] = None,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DeliveryPage:
    """List deliveries, newest first."""
    selected = DeliveryFilter(
        endpoint=endpoint, event=event, states=tuple(state or ()), since=clock.aware(since), until=clock.aware(until)
    )
    page = services.delivery_log.page(selected, before=before, limit=limit)
    return DeliveryPage(
        deliveries=[describe_delivery(delivery) for delivery in page],
        next=page[-1].delivery.seq if len(page) == limit else None,
    )


@router.get("/deliveries/{delivery_id}", responses=problems(404))
def show_delivery(delivery_id: DeliveryId, services: ServicesDep) -> DeliveryDetailsView:
    """Show one delivery: its attempts with the receiver's responses, and the body."""
    return describe_details(services.delivery_log.show(delivery_id))


@router.post(
    "/deliveries/{delivery_id}/replay", status_code=202, response_description="Accepted", responses=problems(404, 409)
)
def replay_delivery(delivery_id: DeliveryId, services: ServicesDep) -> TaskHandle:
    """Send one delivery again, with the same `webhook-id`."""
    return services.delivery_log.replay(delivery_id)


@router.post("/replay", responses=problems())
def replay_deliveries(body: ReplayRequest, services: ServicesDep) -> ReplayResponse:
    """Send the selected deliveries again, oldest first; with `dry_run` only count and list them."""
    replayed = services.delivery_log.replay_many(
        replay_filter(body), after=body.after, limit=body.limit, dry_run=body.dry_run
    )
    return describe_replay(replayed)


@router.get("/endpoints", responses=problems())
def list_endpoints(
    services: ServicesDep,
    state: EndpointState | None = None,
    url: Annotated[Short, Query(description="A part of the address")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> EndpointsResponse:
    """List receivers, the most recently used first."""
    found = services.outbound_webhooks.endpoints(state=state, url=url, limit=limit)
    return EndpointsResponse(endpoints=[describe_endpoint(receiver) for receiver in found])


@router.get("/endpoints/{endpoint_id}", responses=problems(404))
def show_endpoint(endpoint_id: EndpointId, services: ServicesDep) -> EndpointView:
    """Show one receiver."""
    return describe_endpoint(services.outbound_webhooks.endpoint(endpoint_id))


@router.post("/endpoints/{endpoint_id}/enable", responses=problems(404))
def enable_endpoint(endpoint_id: EndpointId, services: ServicesDep) -> EndpointView:
    """Enable a receiver and close its alert. The deliveries that failed in between are not replayed."""
    return describe_endpoint(services.outbound_webhooks.enable(endpoint_id))


@router.post("/endpoints/{endpoint_id}/disable", responses=problems(404))
def disable_endpoint(endpoint_id: EndpointId, services: ServicesDep) -> EndpointView:
    """Disable a receiver: until it is enabled, nothing is sent to it, and its deliveries fail."""
    return describe_endpoint(services.outbound_webhooks.disable(endpoint_id))
