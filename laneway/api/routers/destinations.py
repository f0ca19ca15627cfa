"""Destinations of outbound webhooks: register them, change their secrets, remove them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query

from laneway.api.access import requires
from laneway.api.deps import ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.platform.webhooks.views import describe_destination, describe_new_secret
from laneway.schemas.outbound_destination import (
    DESTINATION_NAME,
    DestinationRequest,
    DestinationsResponse,
    DestinationView,
    EventSubscription,
    NewSecretResponse,
    ReencryptedResponse,
    RotationRequest,
)

router = APIRouter(
    prefix="/api/callbacks/destinations",
    tags=["callbacks"],
    route_class=ThreadedRoute,
    dependencies=[requires(Scope.WEBHOOKS)],
)

Name = Annotated[str, Path(max_length=63, pattern=DESTINATION_NAME, examples=["shop"])]
After = Annotated[str, Query(max_length=63, pattern=r"^[A-Za-z0-9._-]*$", description="`next` of the previous page")]


@router.get("", responses=problems())
def list_destinations(
    services: ServicesDep, after: After = "", limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> DestinationsResponse:
    """List the destinations by name, without their secrets."""
    page = services.destinations.page(after=after, limit=limit)
    return DestinationsResponse(
        destinations=[describe_destination(each) for each in page], next=page[-1].name if len(page) == limit else None
    )


@router.post("", status_code=201, response_description="Registered", responses=problems(409))
def register_destination(body: DestinationRequest, services: ServicesDep) -> NewSecretResponse:
    """Register a destination. The response has its secret, which is not shown again."""
    return describe_new_secret(services.destinations.register(body.name, body.url))


@router.post("/reencrypt", responses=problems())
def reencrypt_destinations(services: ServicesDep) -> ReencryptedResponse:
    """Encrypt the secrets of all destinations with OUTBOUND_KEY. Then OUTBOUND_KEY_PREVIOUS is not needed any more."""
    return ReencryptedResponse(destinations=services.destinations.reencrypt())


@router.get("/{name}", responses=problems(404))
def show_destination(name: Name, services: ServicesDep) -> DestinationView:
    """Show one destination, without its secret."""
    return describe_destination(services.destinations.show(name))


@router.post("/{name}/rotate", responses=problems(404))
def rotate_destination(name: Name, body: RotationRequest, services: ServicesDep) -> NewSecretResponse:
    """Give a destination a new secret. The present one signs as well until the overlap is over."""
    return describe_new_secret(services.destinations.rotate(name, overlap=timedelta(seconds=body.overlap_seconds)))


@router.put("/{name}/events", responses=problems(404))
def subscribe_destination(name: Name, body: EventSubscription, services: ServicesDep) -> DestinationView:
    """Send the selected events of tasks from now on to a destination, each as a signed webhook `task.KIND`.

    It replaces an earlier subscription. Events of the deliveries themselves are not sent.
    """
    return describe_destination(services.event_webhooks.subscribe(name, body))


@router.delete("/{name}/events", responses=problems(404))
def unsubscribe_destination(name: Name, services: ServicesDep) -> DestinationView:
    """Send a destination no further events of tasks. Deliveries that wait are sent."""
    return describe_destination(services.event_webhooks.unsubscribe(name))


@router.delete("/{name}", status_code=204, responses=problems(404))
def remove_destination(name: Name, services: ServicesDep) -> None:
    """Delete a destination with its secret. Nothing is sent to it any more, and its waiting deliveries fail."""
    services.destinations.remove(name)
