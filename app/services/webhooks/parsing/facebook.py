"""Parses Facebook page webhooks: messages, postbacks, referrals and leads, many of them in one request.

Shapes: Meta's "Webhooks for Messenger Platform" (`entry[].messaging[]`) and "Webhooks for Leads"
(`entry[].changes[]` with the field `leadgen`). Echoes of our own messages and delivery and read receipts have nothing
for a conversation and are skipped. `standby` is skipped as well: that thread belongs to another app.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

from pydantic import ValidationError

from app.schemas.conversation import Customer, Interaction
from app.schemas.webhook import (
    Attachment,
    Kind,
    LeadgenChange,
    Messaging,
    PageMessage,
    ParsedDelivery,
    ParsedEvent,
    Referral,
)
from app.services.webhooks.parsing.untrusted_json import (
    bounded,
    conversation_id,
    digest,
    invalid,
    present,
    scalars,
    sentences,
    storable,
)

SOURCE = "facebook"
MAX_EVENTS = 1000
"""Meta sends at most 1000 updates in one request."""
RECEIPTS = ("delivery", "read")

Item = tuple[str, str, dict[str, Any]]
"""Page id, field (`messaging` or the change's field), and the item or the change's value."""


def parse_facebook(body: object) -> ParsedDelivery:
    """The events of one request in their order, each event id once.

    Raises InvalidPayload if it is not a page's webhook; a malformed item is a problem, not an error.
    """
    cleaned = storable(body, source=SOURCE)
    if cleaned.get("object") != "page":
        raise invalid(SOURCE, "object is not 'page', the only supported one")
    entries = cleaned.get("entry")
    if not isinstance(entries, list):
        raise invalid(SOURCE, "entry is not a list")
    events: dict[str, ParsedEvent] = {}
    problems: list[str] = []
    for location, item in _items(cast("list[Any]", entries)):
        if len(events) >= MAX_EVENTS:
            problems.append(f"more than {MAX_EVENTS} events; the rest, from {location} on, was not parsed")
            break
        try:
            event = item if isinstance(item, str) else _event(*item)
        except ValidationError as error:
            event = sentences(error)
        if isinstance(event, str):
            problems.append(f"{location}: {event}")
        elif event:
            events.setdefault(event.event_id, event)
    return ParsedDelivery(events=list(events.values()), problems=bounded(problems))


def _items(entries: list[Any]) -> Iterator[tuple[str, Item | str]]:
    """(location, item), or (location, problem) where an item is malformed."""
    for index, entry in enumerate(entries):
        location = f"entry {index}"
        page = _page_id(entry)
        if page is None:
            yield location, "it is not an object with an id"
            continue
        for name in ("messaging", "changes"):
            items = entry.get(name)
            if items is None:
                continue
            if not isinstance(items, list):
                yield f"{location}, {name}", "it is not a list"
                continue
            for number, item in enumerate(cast("list[Any]", items)):
                yield f"{location}, {name} {number}", _item(page, name, item)


def _page_id(entry: Any) -> str | None:
    page = cast("dict[str, Any]", entry).get("id") if isinstance(entry, dict) else None
    if isinstance(page, bool) or not isinstance(page, int | str):
        return None
    return str(page) if 0 < len(str(page)) <= 155 else None


def _item(page: str, name: str, item: Any) -> Item | str:
    if not isinstance(item, dict):
        return "it is not an object"
    content = cast("dict[str, Any]", item)
    if name == "messaging":
        return page, "messaging", content
    field, value = content.get("field"), content.get("value")
    if not isinstance(field, str) or not isinstance(value, dict):
        return "it has no field and value"
    return page, field, cast("dict[str, Any]", value)


def _event(page: str, field: str, item: dict[str, Any]) -> ParsedEvent | str | None:
    if field == "leadgen":
        return _lead_event(page, LeadgenChange.model_validate(item))
    # The test button of Meta's dashboard sends messaging items as changes, under the names of the subscriptions.
    if field == "messaging" or ((field == "messages" or field.startswith("messaging_")) and "sender" in item):
        return _messaging_event(page, item)
    return _recorded_event(page, field, item)


def _messaging_event(page: str, item: dict[str, Any]) -> ParsedEvent | str | None:
    message = item.get("message")
    if isinstance(message, dict) and cast("dict[str, Any]", message).get("is_echo") is True:
        return None
    if any(name in item for name in RECEIPTS):
        return None
    messaging = Messaging.model_validate(item)
    sender = messaging.sender.id or (messaging.sender.user_ref and f"ref-{messaging.sender.user_ref}")
    if not sender:
        return "sender has neither id nor user_ref"
    if messaging.message:
        return _message_event(page, sender, messaging.message, messaging.timestamp)
    if messaging.postback or messaging.referral:
        return _click_event(page, sender, messaging)
    return _recorded_event(page, "messaging", item)


def _message_event(page: str, sender: str, message: PageMessage, at: datetime | None) -> ParsedEvent:
    data = present(
        page_id=page,
        sender_id=sender,
        attachments=[_attachment(item) for item in message.attachments] or None,
        quick_reply=message.quick_reply.payload if message.quick_reply else None,
        referral=_referral(message.referral),
    )
    text = _message_text(message)
    return _interaction("page_message", message.mid, page=page, person=sender, text=text, at=at, data=data)


def _click_event(page: str, sender: str, messaging: Messaging) -> ParsedEvent:
    """The event of a pressed button, or of a person who came by an ad or a link."""
    postback = messaging.postback
    referral = postback.referral if postback else messaging.referral
    data = present(
        page_id=page,
        sender_id=sender,
        payload=postback.payload if postback else None,
        referral=_referral(referral),
    )
    kind: Kind = "postback" if postback else ("ad_click" if _is_ad(messaging.referral) else "other")
    platform_id = postback.mid if postback else None
    moment = messaging.timestamp.isoformat() if messaging.timestamp else None
    event_id = platform_id or f"{kind}:{digest([page, sender, moment, postback and postback.title, data])}"
    text = (postback.title or None) if postback else None
    return _interaction(kind, event_id, page=page, person=sender, text=text, at=messaging.timestamp, data=data)


def _lead_event(page: str, lead: LeadgenChange) -> ParsedEvent:
    data = present(
        page_id=lead.page_id or page,
        leadgen_id=lead.leadgen_id,
        form_id=lead.form_id,
        ad_id=lead.ad_id,
        adgroup_id=lead.adgroup_id,
    )
    person = f"lead-{lead.leadgen_id}"
    return _interaction("lead_form", lead.leadgen_id, page=page, person=person, at=lead.created_time, data=data)


def _interaction(
    kind: Kind,
    event_id: str,
    *,
    page: str,
    person: str,
    at: datetime | None,
    data: dict[str, Any],
    text: str | None = None,
) -> ParsedEvent:
    interaction = Interaction(
        conversation_id=conversation_id(SOURCE, page, person),
        kind=kind,
        channel="facebook",
        event_id=event_id,
        message=text,
        customer=Customer(id=None if kind == "lead_form" else person, name=None, email=None, phone=None),
        details=data,
    )
    return ParsedEvent(event_id=event_id, kind=kind, occurred_at=at, data=data, interaction=interaction)


def _recorded_event(page: str, field: str, item: dict[str, Any]) -> ParsedEvent:
    """An event that is only recorded and opens no conversation: a comment, a reaction, an opt-in, or a new kind."""
    name = field if field != "messaging" else ",".join(sorted(set(item) - {"sender", "recipient", "timestamp"}))
    data = {**scalars(item), "page_id": page, "field": name[:200]}
    return ParsedEvent(event_id=f"other:{digest([page, field, item])}", kind="other", data=data)


def _message_text(message: PageMessage) -> str | None:
    if message.text:
        return message.text
    kinds = ", ".join(dict.fromkeys(item.type for item in message.attachments))
    return f"[attachment: {kinds}]" if kinds else None


def _attachment(item: Attachment) -> dict[str, Any]:
    url = (item.payload or {}).get("url")
    return present(type=item.type, url=url if isinstance(url, str) and len(url) <= 2000 else None)


def _referral(referral: Referral | None) -> dict[str, Any] | None:
    return referral.model_dump(exclude_none=True) if referral else None


def _is_ad(referral: Referral | None) -> bool:
    return referral is not None and (referral.ad_id is not None or (referral.source or "").upper() == "ADS")
