"""Inbound webhooks: the platforms' payload shapes, the events parsed from them, task payloads and responses.

The shapes follow Meta's Messenger Platform and Lead Ads webhook references and Google's lead form webhook schema. Both
platforms add fields without notice and send odd values, so the models are tolerant (`tolerant.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from app.schemas.conversation import Interaction
from app.schemas.tolerant import TolerantModel, cut_to, list_of, read_flag, read_moment, text_of_number
from laneway.schemas.payload import Identifier, Payload
from laneway.schemas.task import Response

Kind = Literal["ad_click", "lead_form", "page_message", "postback", "other"]
"""The kinds of `Interaction`; `other` is an event that is only recorded."""

PlatformId = Annotated[str, BeforeValidator(text_of_number), StringConstraints(min_length=1, max_length=155)]
EventId = Annotated[str, BeforeValidator(text_of_number), StringConstraints(min_length=1, max_length=300)]
Short = Annotated[str, BeforeValidator(cut_to(2000)), BeforeValidator(text_of_number)]
Name = Annotated[str, BeforeValidator(text_of_number), StringConstraints(strip_whitespace=True, max_length=200)]
LongText = Annotated[
    str, BeforeValidator(cut_to(8000)), BeforeValidator(text_of_number), StringConstraints(strip_whitespace=True)
]
Flag = Annotated[bool, BeforeValidator(read_flag)]
Moment = Annotated[datetime, BeforeValidator(read_moment)]


class Participant(TolerantModel):
    """A sender or recipient; a person who is not logged in has only a `user_ref`."""

    id: PlatformId | None = None
    user_ref: PlatformId | None = None


class AdContext(TolerantModel):
    """The ad that a person clicked."""

    ad_title: Short | None = None
    post_id: Short | None = None
    product_id: Short | None = None


class Referral(TolerantModel):
    """How a person entered the thread: by an ad (`source` is ADS) or a link."""

    ref: Short | None = None
    source: Short | None = None
    type: Short | None = None
    ad_id: PlatformId | None = None
    referer_uri: Short | None = None
    ads_context_data: AdContext | None = None


class AttachmentPayload(TolerantModel):
    """Where an attachment is."""

    url: Short | None = None


class Attachment(TolerantModel):
    """A picture, file, sticker, template …; only its type and URL are used."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    payload: AttachmentPayload = AttachmentPayload()


class QuickReply(TolerantModel):
    """The button that a message came from."""

    payload: Short | None = None


class PageMessage(TolerantModel):
    """A message that a person wrote to a page, or the echo of one that the page wrote."""

    mid: EventId | None = None
    is_echo: Flag = False
    text: LongText | None = None
    attachments: Annotated[list[Attachment], list_of(Attachment, limit=100)] = Field(default=[])
    quick_reply: QuickReply | None = None
    referral: Referral | None = None


class PagePostback(TolerantModel):
    """A pressed button; older API versions send no `mid`."""

    mid: EventId | None = None
    title: LongText | None = None
    payload: Short | None = None
    referral: Referral | None = None


class Messaging(TolerantModel):
    """One item of an entry's `messaging`."""

    sender: Participant = Participant()
    recipient: Participant = Participant()
    timestamp: Moment | None = None
    message: PageMessage | None = None
    postback: PagePostback | None = None
    referral: Referral | None = None


class LeadgenChange(TolerantModel):
    """The value of a `leadgen` change. It has ids only; the form's answers are in the Graph API."""

    leadgen_id: EventId
    page_id: PlatformId | None = None
    form_id: PlatformId | None = None
    ad_id: PlatformId | None = None
    adgroup_id: PlatformId | None = None
    created_time: Moment | None = None


class LeadColumn(TolerantModel):
    """One answered field of a Google lead form."""

    column_id: Annotated[str, BeforeValidator(text_of_number), StringConstraints(max_length=200)] | None = None
    column_name: Annotated[str, BeforeValidator(text_of_number), StringConstraints(max_length=500)] | None = None
    string_value: Short


class GoogleLead(TolerantModel):
    """A submitted Google lead form, without the key that authenticates it."""

    lead_id: EventId
    user_column_data: Annotated[list[LeadColumn], list_of(LeadColumn, limit=200)] = Field(default=[])
    api_version: Short | None = None
    form_id: PlatformId | None = None
    campaign_id: PlatformId | None = None
    adgroup_id: PlatformId | None = None
    creative_id: PlatformId | None = None
    asset_group_id: PlatformId | None = None
    gcl_id: Short | None = None
    lead_submit_time: Moment | None = None
    is_test: Flag = False


class GenericCustomer(TolerantModel):
    """The customer of a generic event."""

    id: PlatformId | None = None
    name: Name | None = None
    email: Annotated[str, StringConstraints(max_length=254)] | None = None
    phone: Annotated[str, BeforeValidator(text_of_number), StringConstraints(max_length=40)] | None = None


class GenericText(TolerantModel):
    """A message given as an object."""

    text: LongText | None = None


class GenericEvent(TolerantModel):
    """The event of a generic source; every field is optional. Of fields with the same meaning the first one counts."""

    event_id: EventId | None = None
    id: EventId | None = None
    type: Name | None = None
    event: Name | None = None
    text: LongText | None = None
    message: LongText | GenericText | None = None
    customer: GenericCustomer = GenericCustomer()
    conversation_id: PlatformId | None = None
    is_test: Flag | None = None
    test: Flag | None = None
    occurred_at: Moment | None = None
    timestamp: Moment | None = None
    created_at: Moment | None = None


class ParsedEvent(BaseModel):
    """One event of a delivery."""

    model_config = ConfigDict(frozen=True)

    event_id: str = Field(min_length=1, max_length=300)
    """Unique within its source; a repeat of the event has the same id."""
    name: str = Field(max_length=200)
    """What the source calls this kind of event, such as `order.paid`; empty if it does not say."""
    kind: Kind = "other"
    occurred_at: datetime | None = None
    is_test: bool = False
    data: dict[str, Any] = Field(default_factory=dict)
    """The fields that are stored with the event, bounded."""
    body: dict[str, Any] = Field(default_factory=dict)
    """The whole event as received, without secrets."""
    interaction: Interaction | None = None
    """The event as an interaction with a customer; None if it does not say whose it is."""
    problems: list[str] = []
    """A sentence about each field that could not be read."""
    unreadable: str | None = None
    """Why nothing can follow from the event at all."""


class ParsedDelivery(BaseModel):
    """The content of one request. A part that cannot be read is an event, too: an unreadable one."""

    model_config = ConfigDict(frozen=True)

    events: list[ParsedEvent] = []


class StoredDelivery(Payload):
    """Payload of the `process_*_webhook_task`s: a verified request that is stored."""

    delivery_id: Identifier


class WebhookReceipt(Response):
    """The delivery is stored and queued."""

    status: Literal["queued"] = "queued"
    delivery_id: str
    task_id: str
    duplicate: bool = Field(description="True when the same body was delivered before: nothing new was queued")
