"""Outbound webhooks: the log of deliveries, replays, and the receivers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.deps import NO_NULL, ServicesDep
from app.api.errors import problems
from app.api.routers.tasks import Short, Written
from app.core import clock
from app.db.repositories.callbacks import DeliveryFilter
from app.schemas.callback import (
    DeliveryDetails,
    DeliveryPage,
    Endpoints,
    EndpointState,
    EndpointView,
    Replayed,
    ReplayRequest,
)
from app.schemas.task import FINISHED, State, TaskHandle
from app.services.callback_views import describe_delivery, describe_details, describe_endpoint, describe_replay

router = APIRouter(prefix="/api/callbacks", tags=["callbacks"])

DeliveryId = Annotated[str, Path(min_length=1, max_length=155, pattern=NO_NULL, examples=["message:5f0c:notify"])]
EndpointId = Annotated[str, Path(min_length=1, max_length=64, pattern=NO_NULL,
                                 examples=["5d0c6a1f3b7e9a245d0c6a1f3b7e9a24"])]  # fmt: skip


@router.get("/deliveries", responses=problems())
def deliveries(
    services: ServicesDep,
    endpoint: Annotated[Short, Query(description="The endpoint's id")] = None,
    event: Short = None,
    state: Annotated[list[State] | None, Query()] = None,
    since: Annotated[Written | None, Query(description="First attempted at or after")] = None,
    until: Annotated[Written | None, Query(description="First attempted before")] = None,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DeliveryPage:
    """Deliveries, newest first."""
    which = DeliveryFilter(endpoint=endpoint, event=event, states=tuple(state or ()), since=clock.aware(since),
                           until=clock.aware(until))  # fmt: skip
    page = services.callback_log.page(which, before=before, limit=limit)
    return DeliveryPage(deliveries=[describe_delivery(one) for one in page],
                        next=page[-1].delivery.seq if len(page) == limit else None)  # fmt: skip


@router.get("/deliveries/{delivery_id}", responses=problems(404))
def show(delivery_id: DeliveryId, services: ServicesDep) -> DeliveryDetails:
    """One delivery: its attempts, what was answered, and the body."""
    return describe_details(services.callback_log.show(delivery_id))


@router.post("/deliveries/{delivery_id}/replay", status_code=202, response_description="Accepted",
             responses=problems(404, 409))  # fmt: skip
def replay(delivery_id: DeliveryId, services: ServicesDep) -> TaskHandle:
    """Send one delivery again, under the same `webhook-id`."""
    return services.callback_log.replay(delivery_id)


@router.post("/replay", responses=problems())
def replay_many(body: ReplayRequest, services: ServicesDep) -> Replayed:
    """Send the selected deliveries again, oldest first; with `dry_run` say how many and which."""
    states = () if body.only_failed else FINISHED
    which = DeliveryFilter(endpoint=body.endpoint, event=body.event, states=states, since=body.since, until=body.until)
    done = services.callback_log.replay_many(which, after=body.after, limit=body.limit, dry_run=body.dry_run)
    return describe_replay(done)


@router.get("/endpoints", responses=problems())
def endpoints(
    services: ServicesDep,
    state: EndpointState | None = None,
    url: Annotated[Short, Query(description="Part of the address")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Endpoints:
    """Receivers, the last used first."""
    found = services.callbacks.endpoints(state=state, url=url, limit=limit)
    return Endpoints(endpoints=[describe_endpoint(one) for one in found])


@router.get("/endpoints/{endpoint_id}", responses=problems(404))
def endpoint(endpoint_id: EndpointId, services: ServicesDep) -> EndpointView:
    """One receiver."""
    return describe_endpoint(services.callbacks.endpoint(endpoint_id))


@router.post("/endpoints/{endpoint_id}/enable", responses=problems(404))
def enable(endpoint_id: EndpointId, services: ServicesDep) -> EndpointView:
    """Send to it again, and close its alert. What failed meanwhile is sent again by a replay."""
    return describe_endpoint(services.callbacks.enable(endpoint_id))


@router.post("/endpoints/{endpoint_id}/disable", responses=problems(404))
def disable(endpoint_id: EndpointId, services: ServicesDep) -> EndpointView:
    """Send nothing to it until it is enabled; its deliveries end as failed."""
    return describe_endpoint(services.callbacks.disable(endpoint_id))
