"""Tables about outbound webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.cli import views
from laneway.cli.tables import Fields, Grid, ident, number, text, when

if TYPE_CHECKING:
    from laneway.schemas.outbound_destination import DestinationView
    from laneway.schemas.outbound_webhook import DeliveryDetailsView, DeliveryView, EndpointView


def delivery_table(deliveries: Sequence[DeliveryView]) -> Grid:
    """Deliveries, one per line."""
    table = Grid(
        ident("delivery id"), text("event"), "state", number("attempts"), "status", "first", text("receiver or error")
    )
    for delivery in deliveries:
        table.add(
            delivery.delivery_id,
            delivery.event,
            views.state(delivery.state),
            delivery.attempts,
            delivery.status,
            when(delivery.created_at),
            delivery.error or delivery.url,
        )
    return table


def endpoint_table(endpoints: Sequence[EndpointView]) -> Grid:
    """Receivers, one per line."""
    names = ("state", number("failures"), "since", "last success", "reason")
    table = Grid(ident("endpoint id"), text("receiver"), *names)
    for endpoint in endpoints:
        table.add(
            endpoint.endpoint_id,
            endpoint.url,
            endpoint.state,
            endpoint.consecutive_failures,
            when(endpoint.failing_since),
            when(endpoint.last_success_at),
            endpoint.reason,
        )
    return table


def destination_table(destinations: Sequence[DestinationView]) -> Grid:
    """Destinations, one per line."""
    table = Grid(ident("name"), text("address"), "registered", "rotated", "two secrets until", text("events"))
    for each in destinations:
        table.add(
            each.name, each.url, when(each.created_at), when(each.rotated_at), when(each.previous_until), _events(each)
        )
    return table


def _events(destination: DestinationView) -> str:
    return ", ".join(destination.events.kinds) if destination.events else ""


def attempt_table(details: DeliveryDetailsView) -> Grid:
    """The attempts of a delivery, one per line."""
    table = Grid(number("attempt"), "started", number("ms"), "status", text("error"), text("response"))
    for attempt in details.attempts:
        table.add(
            attempt.number,
            when(attempt.started_at),
            attempt.duration_ms or "",
            attempt.status,
            attempt.error,
            attempt.answer,
        )
    return table


def field_table(delivery: DeliveryView) -> Fields:
    """One delivery, one line per field."""
    table = Fields()
    for name in type(delivery).model_fields:
        value = getattr(delivery, name)
        if value is not None:
            table.add(name, views.field_value(value))
    return table
