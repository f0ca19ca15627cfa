"""Parses webhooks of any other source: a few well-known field names, all of them optional.

    {"id": "evt-1", "type": "message", "text": "…", "conversation_id": "42", "occurred_at": "2026-01-31T12:00:00Z",
     "customer": {"id": "c-7", "name": "…", "email": "…", "phone": "…"}, "is_test": false}

Aliases: `event_id` for `id`, `event` for `type`, `message` (text, or an object with `text`) for `text`. Without an id
the body's digest is the event id, so that a repeated request is the same event.
"""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from app.schemas.conversation import Customer, Interaction
from app.schemas.webhook import GenericEvent, GenericText, Kind, ParsedDelivery, ParsedEvent
from app.services.webhooks.parsing.untrusted_json import conversation_id, digest, invalid, scalars, sentences, storable

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
    """The event of the request. Raises InvalidPayload if a known field has the wrong type.

    The event opens or continues a conversation if it has a known kind or a text. The conversation always belongs to
    this source, whatever `conversation_id` the event names.
    """
    cleaned = storable(body, source=source)
    try:
        event = GenericEvent.model_validate(cleaned)
    except ValidationError as error:
        raise invalid(source, sentences(error)) from None
    event_id = event.id or f"sha256:{digest(cleaned)}"
    text = event.text or (event.message.text if isinstance(event.message, GenericText) else event.message) or None
    kind = _kind(event.type, has_text=text is not None)
    data = scalars(cleaned)
    interaction = None
    if kind != "other" or text:
        interaction = Interaction(
            conversation_id=_conversation(source, event, event_id=event_id),
            kind=kind,
            channel="webhook",
            event_id=event_id,
            message=text,
            customer=Customer(**event.customer.model_dump()),
            is_test=event.is_test,
            details=data,
        )
    parsed = ParsedEvent(
        event_id=event_id,
        kind=kind,
        occurred_at=event.occurred_at,
        is_test=event.is_test,
        data=data,
        interaction=interaction,
    )
    return ParsedDelivery(events=[parsed])


def _kind(name: str | None, *, has_text: bool) -> Kind:
    if name:
        return KINDS.get(name.strip().lower(), "other")
    return "page_message" if has_text else "other"


def _conversation(source: str, event: GenericEvent, *, event_id: str) -> str:
    if event.conversation_id:
        return conversation_id(source, event.conversation_id)
    if event.customer.id:
        return conversation_id(source, "customer", event.customer.id)
    if event.customer.email:  # A digest, because ids are shown and logged where an address must not be.
        return conversation_id(source, "customer", digest(event.customer.email.strip().lower()))
    return conversation_id(source, "event", event_id)
