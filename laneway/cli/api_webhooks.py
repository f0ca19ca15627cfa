"""Outbound webhooks of a platform, asked through its API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from laneway.client import webhook_calls

if TYPE_CHECKING:
    from laneway.cli.api_calls import Api
    from laneway.cli.source_parts import DeliverySelection
    from laneway.schemas.choices import EndpointState
    from laneway.schemas.outbound_destination import (
        DestinationRequest,
        DestinationView,
        EventSubscription,
        NewSecretResponse,
    )
    from laneway.schemas.outbound_webhook import (
        DeliveryDetailsView,
        DeliveryView,
        EndpointView,
        ReplayRequest,
        ReplayResponse,
    )
    from laneway.schemas.task import TaskHandle


class ApiWebhooks:
    """Asks the API for deliveries, receivers and destinations."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def deliveries(self, which: DeliverySelection, *, limit: int) -> Sequence[DeliveryView]:
        selected = asdict(which)
        selected["state"] = selected.pop("states")
        return self._api.send(webhook_calls.deliveries(**selected, limit=limit)).deliveries

    def delivery(self, id: str) -> DeliveryDetailsView:
        return self._api.send(webhook_calls.delivery(id))

    def replay(self, id: str) -> TaskHandle:
        return self._api.send(webhook_calls.replay_delivery(id))

    def replay_many(self, request: ReplayRequest) -> ReplayResponse:
        return self._api.send(webhook_calls.replay_deliveries(request))

    def endpoints(self, *, state: EndpointState | None, url: str | None, limit: int) -> Sequence[EndpointView]:
        return self._api.send(webhook_calls.endpoints(state=state, url=url, limit=limit)).endpoints

    def enable(self, id: str) -> EndpointView:
        return self._api.send(webhook_calls.enable_endpoint(id))

    def disable(self, id: str) -> EndpointView:
        return self._api.send(webhook_calls.disable_endpoint(id))

    def destinations(self, *, after: str, limit: int) -> Sequence[DestinationView]:
        return self._api.send(webhook_calls.destinations(after=after, limit=limit)).destinations

    def register(self, request: DestinationRequest) -> NewSecretResponse:
        return self._api.send(webhook_calls.register_destination(request))

    def rotate(self, name: str, *, overlap: int) -> NewSecretResponse:
        return self._api.send(webhook_calls.rotate_destination(name, overlap=overlap))

    def remove(self, name: str) -> None:
        self._api.send(webhook_calls.remove_destination(name))

    def subscribe(self, name: str, subscription: EventSubscription) -> DestinationView:
        return self._api.send(webhook_calls.subscribe_destination(name, subscription))

    def unsubscribe(self, name: str) -> DestinationView:
        return self._api.send(webhook_calls.unsubscribe_destination(name))

    def reencrypt(self) -> int:
        return self._api.send(webhook_calls.reencrypt_destinations()).destinations
