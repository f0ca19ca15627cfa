"""Sends events of tasks as webhooks to the destinations that have subscribed to them.

Each destination has the id of the last event that was looked at for it. One transaction reads the events after it,
submits a delivery for each that was selected, and stores the new id. So an event is sent once and none is left out,
also after a crash; a delivery itself is repeated until the destination has it (at-least-once), with the same
`webhook-id`. The order of arrival is not that of the events: a receiver sorts them by `data.id`.

The events of deliveries are not sent: each would cause further ones, without end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from laneway.platform.access.caller import NOBODY
from laneway.platform.audit_log.recording import record
from laneway.platform.db.models import OutboundDestination
from laneway.platform.db.queries import event_feed
from laneway.platform.db.queries import outbound_destinations as repository
from laneway.platform.db.queries.event_feed import EventFilter
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound
from laneway.platform.flow.queue_limits import check_declared
from laneway.platform.history.event_feed import FeedItem, items_of
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.task_manager import TaskManager
from laneway.platform.webhooks.reserved_events import DELIVERY_ROLE, TASK_EVENT
from laneway.schemas.outbound_destination import EventSubscription

MOST: Final = 100
"""Deliveries that one transaction submits."""


class EventWebhooks:
    """Subscribes destinations to events, and sends the events."""

    def __init__(self, database: Database, tasks: TaskManager) -> None:
        self._database, self._tasks = database, tasks

    def subscribe(self, name: str, subscription: EventSubscription) -> OutboundDestination:
        """Send the selected events from now on to a destination. It replaces an earlier subscription.

        Raises NotFound, NoSuchQueue, MissingTask.
        """
        if subscription.queue is not None:
            check_declared(subscription.queue)
        registry.by_role(DELIVERY_ROLE)
        return self._change(name, subscription.model_dump(mode="json", exclude_none=True))

    def unsubscribe(self, name: str) -> OutboundDestination:
        """Send a destination no further events. Deliveries that wait are sent. Raises NotFound. Safe to repeat."""
        return self._change(name, None)

    def send(self) -> int:
        """Submit the deliveries of new events; return how many. Raises QueueFull: the rest is submitted later."""
        with self._database.reading() as session:
            until = event_feed.settled(session)
            names = repository.subscribed(session, behind=until)
        return sum(self._send_to(name) for name in names)

    def _change(self, name: str, events: dict[str, Any] | None) -> OutboundDestination:
        with self._database.transaction() as session:
            destination = repository.find(session, name, lock=True) if "\x00" not in name else None
            if destination is None:
                raise NotFound("destination", name)
            before = destination.events if destination.events_after is not None else None
            if events is not None:
                destination.events = events
            destination.events_after = None if events is None else event_feed.settled(session)
            session.flush()
            action = "destination.unsubscribe" if events is None else "destination.subscribe"
            record(session, action, ("destination", name), before={"events": before}, after={"events": events})
        return destination

    def _send_to(self, name: str) -> int:
        sent = 0
        while True:
            with self._tasks.transaction(bounded=True) as change:
                destination = repository.find(change.session, name, lock=True)
                if destination is None or destination.events_after is None:
                    return sent
                until = event_feed.settled(change.session)
                page = event_feed.page(
                    change.session,
                    after=destination.events_after,
                    until=until,
                    limit=MOST,
                    which=_filter(destination.events or {}),
                )
                items: Sequence[FeedItem] = items_of(page)
                for item in items:
                    options = SubmitOptions(id=f"event:{name}:{item.event.seq}")
                    change.submit(registry.by_role(DELIVERY_ROLE), _webhook(destination.url, item), options=options)
                is_last = len(items) < MOST
                destination.events_after = until if is_last else items[-1].event.seq
            sent += len(items)
            if is_last:
                return sent


def subscription_of(destination: OutboundDestination) -> EventSubscription | None:
    """Which events a destination gets; None: it gets none."""
    if destination.events_after is None:
        return None
    return EventSubscription.model_validate(destination.events or {})


def _filter(events: dict[str, Any]) -> EventFilter:
    deliveries = frozenset(name for name, spec in registry.items() if spec.role == DELIVERY_ROLE)
    kinds = tuple(events.get("kinds", ()))
    selected = {name: events.get(name) for name in ("queue", "name", "tag")}
    return EventFilter(caller=NOBODY, kinds=kinds, without_names=deliveries, **selected)


def _webhook(url: str, item: FeedItem) -> dict[str, Any]:
    kind = item.event.kind.replace(" ", "_")
    data = item.view.model_dump(mode="json")
    return {"url": url, "event": f"{TASK_EVENT}{kind}", "data": data, "occurred_at": data["at"]}
