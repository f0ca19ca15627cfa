"""Parses Facebook page webhooks: messages, postbacks, referrals and leads, many of them in one request.

Shapes: Meta's "Webhooks for Messenger Platform" (`entry[].messaging[]`) and "Webhooks for Leads"
(`entry[].changes[]` with the field `leadgen`). Echoes of our own messages and delivery and read receipts have nothing
for a conversation and are skipped. `standby` is skipped as well: that thread belongs to another app.

The name of an event is `message`, `postback`, `referral`, the field of a change (`leadgen`, `feed`), or the other
fields of the item (`message_edit`, `reaction`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple, cast

from pydantic import ValidationError

from app.schemas.conversation import Customer, Interaction
from app.schemas.tolerant import sentences
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
from app.services.webhooks.parsing.collecting import collected, unreadable
from app.services.webhooks.parsing.untrusted_json import conversation_id, digest, present, scalars, storable

SOURCE: Final = "facebook"
RECEIPTS: Final = frozenset({"delivery", "read"})
CONVERSATION: Final = ("message", "postback", "referral")
"""The fields of an item that concern a conversation."""
ENVELOPE: Final = frozenset({"sender", "recipient", "timestamp"})


class Part(NamedTuple):
    """One part of a delivery that becomes an event."""

    page: str
    """The id of the page; empty if it is unknown."""
    item: dict[str, Any]
    problems: list[str]


def parse_facebook(body: object) -> ParsedDelivery:
    """The events of one request in their order, each event id once.

    What is not a page's webhook, or a part of one, is an unreadable event. Raises InvalidPayload if the body is neither
    an object nor an array.
    """
    cleaned = storable(body, source=SOURCE)
    pages = cleaned if isinstance(cleaned, list) else [cleaned]
    return collected(event for page in pages for event in _page_events(page))


def _page_events(page: Any) -> Iterator[ParsedEvent | None]:
    content = cast("dict[str, Any]", page) if isinstance(page, dict) else {}
    if content.get("object") != "page":
        yield unreadable(page, reason="object is not 'page', the only supported one")
        return
    for entry in _listed(content.get("entry")):
        if not isinstance(entry, dict):
            yield unreadable(entry, reason="the entry is not an object")
            continue
        yield from _entry_events(cast("dict[str, Any]", entry))


def _entry_events(entry: dict[str, Any]) -> Iterator[ParsedEvent | None]:
    page = _page_id(entry.get("id"))
    for name in ("messaging", "changes"):
        for item in _listed(entry.get(name)):
            if not isinstance(item, dict):
                yield unreadable(item, reason=f"the item of {name} is not an object")
            elif name == "messaging":
                yield _messaging_event(page, cast("dict[str, Any]", item))
            else:
                yield _change_event(page, cast("dict[str, Any]", item))


def _listed(value: Any) -> list[Any]:
    """The items of a list; an object that stands where a list is expected is its only item."""
    if value is None:
        return []
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _page_id(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value) if 0 < len(str(value)) <= 155 else None


def _change_event(page: str | None, change: dict[str, Any]) -> ParsedEvent | None:
    field, value = change.get("field"), change.get("value")
    if not isinstance(field, str) or not isinstance(value, dict):
        return unreadable(change, reason="the change has no field and value")
    content = cast("dict[str, Any]", value)
    if field == "leadgen":
        return _lead_event(page, content)
    # The test button of Meta's dashboard sends messaging items as changes, under the names of the subscriptions.
    if (field == "messages" or field.startswith("messaging_")) and "sender" in content:
        return _messaging_event(page, content)
    return _recorded_event(Part(page or "", content, []), field)


def _messaging_event(page: str | None, item: dict[str, Any]) -> ParsedEvent | None:
    """The event of an item; None for an echo and for a receipt."""
    messaging, problems = Messaging.read(item)
    if RECEIPTS.intersection(item) or (messaging.message and messaging.message.is_echo):
        return None
    page = page or messaging.recipient.id
    part = Part(page or "", item, problems)
    sender = messaging.sender.id or (messaging.sender.user_ref and f"ref-{messaging.sender.user_ref}")
    name = next((name for name in CONVERSATION if name in item), None)
    if name is None:
        return _recorded_event(part, ",".join(sorted(set(item) - ENVELOPE)))
    if page is None or not sender:
        problems.append(f"it has no {'page' if page is None else 'sender'} with an id")
    elif messaging.message:
        return _message_event(part, messaging, messaging.message, sender=sender)
    elif messaging.postback or messaging.referral:
        return _click_event(part, messaging, sender=sender)
    return _recorded_event(part, name)


def _message_event(part: Part, messaging: Messaging, message: PageMessage, *, sender: str) -> ParsedEvent:
    data = present(
        page_id=part.page,
        sender_id=sender,
        attachments=[_attachment(item) for item in message.attachments] or None,
        quick_reply=message.quick_reply.payload if message.quick_reply else None,
        referral=_referral(message.referral),
    )
    return _interaction(
        part,
        kind="page_message",
        name="message",
        event_id=message.mid or f"message:{digest([part.page, part.item])}",
        person=sender,
        text=_message_text(message),
        at=messaging.timestamp,
        data=data,
    )


def _click_event(part: Part, messaging: Messaging, *, sender: str) -> ParsedEvent:
    """The event of a pressed button, or of a person who came by an ad or a link."""
    postback = messaging.postback
    referral = postback.referral if postback else messaging.referral
    data = present(
        page_id=part.page,
        sender_id=sender,
        payload=postback.payload if postback else None,
        referral=_referral(referral),
    )
    kind: Kind = "postback" if postback else ("ad_click" if _is_ad(messaging.referral) else "other")
    platform_id = postback.mid if postback else None
    moment = messaging.timestamp.isoformat() if messaging.timestamp else None
    identity = [part.page, sender, moment, postback and postback.title, data]
    return _interaction(
        part,
        kind=kind,
        name="postback" if postback else "referral",
        event_id=platform_id or f"{kind}:{digest(identity)}",
        person=sender,
        text=(postback.title or None) if postback else None,
        at=messaging.timestamp,
        data=data,
    )


def _lead_event(page: str | None, content: dict[str, Any]) -> ParsedEvent:
    try:
        lead, problems = LeadgenChange.read(content)
    except ValidationError as error:
        return unreadable(content, reason=sentences(error), name="leadgen")
    part = Part(page or lead.page_id or "", content, problems)
    data = present(
        page_id=lead.page_id or page,
        leadgen_id=lead.leadgen_id,
        form_id=lead.form_id,
        ad_id=lead.ad_id,
        adgroup_id=lead.adgroup_id,
    )
    return _interaction(
        part,
        kind="lead_form",
        name="leadgen",
        event_id=lead.leadgen_id,
        person=f"lead-{lead.leadgen_id}",
        at=lead.created_time,
        data=data,
    )


def _interaction(
    part: Part,
    *,
    kind: Kind,
    name: str,
    event_id: str,
    person: str,
    at: datetime | None,
    data: dict[str, Any],
    text: str | None = None,
) -> ParsedEvent:
    interaction = Interaction(
        conversation_id=conversation_id(SOURCE, part.page, person),
        kind=kind,
        channel="facebook",
        event_id=event_id,
        message=text,
        customer=Customer(id=None if kind == "lead_form" else person, name=None, email=None, phone=None),
        details=data,
    )
    return ParsedEvent(
        event_id=event_id,
        name=name,
        kind=kind,
        occurred_at=at,
        data=data,
        body=part.item,
        interaction=interaction,
        problems=part.problems,
    )


def _recorded_event(part: Part, name: str) -> ParsedEvent:
    """An event without a conversation: a comment, a reaction, an opt-in, an edit, a new kind, or an unknown sender."""
    data = {**scalars(part.item), "page_id": part.page, "field": name[:200]}
    return ParsedEvent(
        event_id=f"other:{digest([part.page, name, part.item])}",
        name=name[:200],
        data=data,
        body=part.item,
        problems=part.problems,
    )


def _message_text(message: PageMessage) -> str | None:
    if message.text:
        return message.text
    kinds = ", ".join(dict.fromkeys(item.type for item in message.attachments))
    return f"[attachment: {kinds}]" if kinds else None


def _attachment(item: Attachment) -> dict[str, Any]:
    return present(type=item.type, url=item.payload.url)


def _referral(referral: Referral | None) -> dict[str, Any] | None:
    return referral.model_dump(exclude_none=True) if referral else None


def _is_ad(referral: Referral | None) -> bool:
    return referral is not None and (referral.ad_id is not None or (referral.source or "").upper() == "ADS")
