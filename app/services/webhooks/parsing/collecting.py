"""Collects the events of a delivery. What cannot be read is an event, too, so that it is kept, shown and counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from app.schemas.webhook import ParsedDelivery, ParsedEvent
from app.services.webhooks.parsing.untrusted_json import digest, scalars

MAX_EVENTS: Final = 1000
"""The most events that are read of one delivery. Meta sends at most this many."""


def collected(events: Iterable[ParsedEvent | None]) -> ParsedDelivery:
    """The events in their order, each event id once; at most `MAX_EVENTS`, and one that tells of the rest."""
    kept: dict[str, ParsedEvent] = {}
    rest = 0
    for event in events:
        if event is None:
            continue
        if len(kept) < MAX_EVENTS:
            kept.setdefault(event.event_id, event)
        elif event.event_id not in kept:
            rest += 1
    if rest:
        reason = f"the delivery has more than {MAX_EVENTS} events; {rest} of them were not read"
        too_many = unreadable({"after": next(reversed(kept)), "not_read": rest}, reason=reason)
        kept[too_many.event_id] = too_many
    return ParsedDelivery(events=list(kept.values()))


def unreadable(value: Any, *, reason: str, name: str = "") -> ParsedEvent:
    """The event of a part that cannot be read: nothing follows from it until it can be."""
    digested: object = value
    body = cast("dict[str, Any]", value) if isinstance(value, dict) else {"value": digested}
    return ParsedEvent(
        event_id=f"unreadable:{digest(digested)}",
        name=name[:200],
        data=scalars(body),
        body=body,
        unreadable=reason,
    )
