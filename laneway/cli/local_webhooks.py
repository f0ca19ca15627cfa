"""Outbound webhooks of the platform of the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
from laneway.platform.webhooks.views import (
    describe_delivery,
    describe_destination,
    describe_details,
    describe_endpoint,
    describe_new_secret,
    describe_replay,
    replay_filter,
)

if TYPE_CHECKING:
    from laneway.cli.source_parts import DeliverySelection
    from laneway.platform.platform import Platform
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


class LocalWebhooks:
    """Asks the services of the platform for deliveries, receivers and destinations."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def deliveries(self, which: DeliverySelection, *, limit: int) -> Sequence[DeliveryView]:
        page = self._platform.delivery_log.page(DeliveryFilter(**asdict(which)), limit=limit)
        return [describe_delivery(delivery) for delivery in page]

    def delivery(self, id: str) -> DeliveryDetailsView:
        return describe_details(self._platform.delivery_log.show(id))

    def replay(self, id: str) -> TaskHandle:
        return self._platform.delivery_log.replay(id)

    def replay_many(self, request: ReplayRequest) -> ReplayResponse:
        return describe_replay(
            self._platform.delivery_log.replay_many(
                replay_filter(request), after=request.after, limit=request.limit, dry_run=request.dry_run
            )
        )

    def endpoints(self, *, state: EndpointState | None, url: str | None, limit: int) -> Sequence[EndpointView]:
        found = self._platform.outbound_webhooks.endpoints(state=state, url=url, limit=limit)
        return [describe_endpoint(receiver) for receiver in found]

    def enable(self, id: str) -> EndpointView:
        return describe_endpoint(self._platform.outbound_webhooks.enable(id))

    def disable(self, id: str) -> EndpointView:
        return describe_endpoint(self._platform.outbound_webhooks.disable(id))

    def destinations(self, *, after: str, limit: int) -> Sequence[DestinationView]:
        return [describe_destination(each) for each in self._platform.destinations.page(after=after, limit=limit)]

    def register(self, request: DestinationRequest) -> NewSecretResponse:
        return describe_new_secret(self._platform.destinations.register(request.name, request.url))

    def rotate(self, name: str, *, overlap: int) -> NewSecretResponse:
        return describe_new_secret(self._platform.destinations.rotate(name, overlap=timedelta(seconds=overlap)))

    def remove(self, name: str) -> None:
        self._platform.destinations.remove(name)

    def subscribe(self, name: str, subscription: EventSubscription) -> DestinationView:
        return describe_destination(self._platform.event_webhooks.subscribe(name, subscription))

    def unsubscribe(self, name: str) -> DestinationView:
        return describe_destination(self._platform.event_webhooks.unsubscribe(name))

    def reencrypt(self) -> int:
        return self._platform.destinations.reencrypt()
