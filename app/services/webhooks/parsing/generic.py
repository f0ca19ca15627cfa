"""Parses webhooks of any other source: a few well-known field names, all of them optional.

    {"id": "evt-1", "type": "message", "text": "…", "conversation_id": "42", "occurred_at": "2026-01-31T12:00:00Z",
     "customer": {"id": "c-7", "name": "…", "email": "…", "phone": "…"}, "is_test": false}

`event_id` stands for `id`, `event` for `type`, `message` (text, or an object with `text`) for `text`. Without an id the
event's digest is its id, so that a repeated request is the same event. An array holds one event per item.
"""

from __future__ import annotations

from typing import Any, Final, cast

from app.schemas.conversation import Customer, Interaction
from app.schemas.webhook import GenericEvent, GenericText, Kind, ParsedDelivery, ParsedEvent
from app.services.webhooks.parsing.collecting import collected, unreadable
from app.services.webhooks.parsing.untrusted_json import conversation_id, digest, scalars, storable

KINDS: Final[dict[str, Kind]] = {
    "message": "page_message",
    "message.created": "page_message",
    "message.received": "page_message",
    "page_message": "page_message",
    "postback": "postback",
    "lead": "lead_form",
    "lead.created": "lead_form",
    "lead_form": "lead_form",
    "ad_click": "ad_click",
    "ad.click": "ad_click",
}


def parse_generic(source: str, body: object) -> ParsedDelivery:
    """The events of the request. Raises InvalidPayload if it is neither an object nor an array.

    The conversation of an event always belongs to this source, whatever `conversation_id` the event names.
    """
    cleaned = storable(body, source=source)
    return collected(_event(source, item) for item in (cleaned if isinstance(cleaned, list) else [cleaned]))


def _event(source: str, item: Any) -> ParsedEvent:
    if not isinstance(item, dict):
        return unreadable(item, reason="it is not an object")
    content = cast("dict[str, Any]", item)
    event, problems = GenericEvent.read(content)
    event_id = event.event_id or event.id or f"sha256:{digest(content)}"
    text = event.text or (event.message.text if isinstance(event.message, GenericText) else event.message) or None
    name = event.type or event.event or ("message" if text else "")
    kind, data, is_test = KINDS.get(name.lower(), "other"), scalars(content), bool(event.is_test or event.test)
    return ParsedEvent(
        event_id=event_id,
        name=name,
        kind=kind,
        occurred_at=event.occurred_at or event.timestamp or event.created_at,
        is_test=is_test,
        data=data,
        body=content,
        interaction=Interaction(
            conversation_id=_conversation(source, event, event_id=event_id),
            kind=kind,
            channel="webhook",
            event_id=event_id,
            message=text,
            customer=Customer(**event.customer.model_dump()),
            is_test=is_test,
            details=data,
        ),
        problems=problems,
    )


def _conversation(source: str, event: GenericEvent, *, event_id: str) -> str:
    if event.conversation_id:
        return conversation_id(source, event.conversation_id)
    if event.customer.id:
        return conversation_id(source, "customer", event.customer.id)
    if event.customer.email:  # A digest, because ids are shown and logged where an address must not be.
        return conversation_id(source, "customer", digest(event.customer.email.strip().lower()))
    return conversation_id(source, "event", event_id)
