"""The calls of outbound webhooks. Send them with `Client.send`."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from laneway.client.call_parts import adapter, given, part
from laneway.client.calls import Call
from laneway.schemas.outbound_destination import (
    DestinationRequest,
    DestinationsResponse,
    DestinationView,
    EventSubscription,
    NewSecretResponse,
    ReencryptedResponse,
)
from laneway.schemas.outbound_webhook import (
    DeliveryDetailsView,
    DeliveryPage,
    EndpointsResponse,
    EndpointView,
    ReplayRequest,
    ReplayResponse,
)
from laneway.schemas.task import TaskHandle

PREFIX = "/api/callbacks"


def deliveries(**parameters: Any) -> Call[DeliveryPage]:
    """`GET /api/callbacks/deliveries`: the parameters are those of the API."""
    return Call("GET", f"{PREFIX}/deliveries", adapter(DeliveryPage), params=given(parameters))


def delivery(id: str) -> Call[DeliveryDetailsView]:
    """`GET /api/callbacks/deliveries/{id}`."""
    return Call("GET", f"{PREFIX}/deliveries/{part(id)}", adapter(DeliveryDetailsView))


def replay_delivery(id: str) -> Call[TaskHandle]:
    """`POST /api/callbacks/deliveries/{id}/replay`. A repeat could send it a second time."""
    return Call("POST", f"{PREFIX}/deliveries/{part(id)}/replay", adapter(TaskHandle), repeatable=False)


def replay_deliveries(request: ReplayRequest) -> Call[ReplayResponse]:
    """`POST /api/callbacks/replay`. A repeat would count only what the first call left."""
    body = request.model_dump(mode="json", exclude_none=True)
    return Call("POST", f"{PREFIX}/replay", adapter(ReplayResponse), body, waiting=100, repeatable=request.dry_run)


def endpoints(**parameters: Any) -> Call[EndpointsResponse]:
    """`GET /api/callbacks/endpoints`: the parameters are those of the API."""
    return Call("GET", f"{PREFIX}/endpoints", adapter(EndpointsResponse), params=given(parameters))


def enable_endpoint(id: str) -> Call[EndpointView]:
    """`POST /api/callbacks/endpoints/{id}/enable`."""
    return Call("POST", f"{PREFIX}/endpoints/{part(id)}/enable", adapter(EndpointView))


def disable_endpoint(id: str) -> Call[EndpointView]:
    """`POST /api/callbacks/endpoints/{id}/disable`."""
    return Call("POST", f"{PREFIX}/endpoints/{part(id)}/disable", adapter(EndpointView))


def destinations(*, after: str = "", limit: int = 50) -> Call[DestinationsResponse]:
    """`GET /api/callbacks/destinations`; `after`: only names after this one."""
    params = given({"after": after or None, "limit": limit})
    return Call("GET", f"{PREFIX}/destinations", adapter(DestinationsResponse), params=params)


def register_destination(request: DestinationRequest) -> Call[NewSecretResponse]:
    """`POST /api/callbacks/destinations`. A repeat is refused, because the name is taken."""
    body = request.model_dump(mode="json")
    return Call("POST", f"{PREFIX}/destinations", adapter(NewSecretResponse), body, repeatable=False)


def rotate_destination(name: str, *, overlap: int) -> Call[NewSecretResponse]:
    """`POST /api/callbacks/destinations/{name}/rotate`. A repeat would replace the new secret as well."""
    path, body = f"{PREFIX}/destinations/{part(name)}/rotate", {"overlap_seconds": overlap}
    return Call("POST", path, adapter(NewSecretResponse), body, repeatable=False)


def subscribe_destination(name: str, subscription: EventSubscription) -> Call[DestinationView]:
    """`PUT /api/callbacks/destinations/{name}/events`."""
    body = subscription.model_dump(mode="json", exclude_none=True)
    return Call("PUT", f"{PREFIX}/destinations/{part(name)}/events", adapter(DestinationView), body)


def unsubscribe_destination(name: str) -> Call[DestinationView]:
    """`DELETE /api/callbacks/destinations/{name}/events`."""
    return Call("DELETE", f"{PREFIX}/destinations/{part(name)}/events", adapter(DestinationView))


def remove_destination(name: str) -> Call[None]:
    """`DELETE /api/callbacks/destinations/{name}`."""
    return Call("DELETE", f"{PREFIX}/destinations/{part(name)}", TypeAdapter(None))


def reencrypt_destinations() -> Call[ReencryptedResponse]:
    """`POST /api/callbacks/destinations/reencrypt`."""
    return Call("POST", f"{PREFIX}/destinations/reencrypt", adapter(ReencryptedResponse))
