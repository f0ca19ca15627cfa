"""Inbound webhooks: the platforms' payload shapes, the events parsed from them, task payloads and responses.

The shapes follow Meta's Messenger Platform and Lead Ads webhook references and Google's lead form webhook schema. Both
platforms add fields without notice, so unknown fields are ignored; known ones must have their type and a length.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from app.schemas.conversation import Interaction
from laneway.platform.payload import Identifier, Payload
from laneway.platform.schemas.task import Response

Kind = Literal["ad_click", "lead_form", "page_message", "postback", "other"]
"""The kinds of `Interaction`; `other` is an event that is only recorded."""

EARLIEST_YEAR, LATEST_YEAR = 1971, 2200
MILLISECONDS_FROM = 100_000_000_000
"""Numbers from here on are milliseconds since 1970, smaller ones seconds (this many seconds is the year 5138)."""


def _text_of_number(value: object) -> object:
    # Some endpoints send ids as strings, others as 64-bit numbers.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _parse_moment(value: object) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    try:
        moment = _read_moment(value)
    except (ValueError, OverflowError, OSError):
        raise ValueError("is not a time") from None
    if not EARLIEST_YEAR <= moment.year < LATEST_YEAR:
        raise ValueError(f"must be between {EARLIEST_YEAR} and {LATEST_YEAR}")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read_moment(value: object) -> datetime:
    if isinstance(value, str) and not value.strip().isdecimal():
        return datetime.fromisoformat(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is not a time")  # noqa: TRY004 - Pydantic reports only a ValueError as a problem
    number = float(value)
    return datetime.fromtimestamp(number / 1000 if number >= MILLISECONDS_FROM else number, UTC)


PlatformId = Annotated[str, BeforeValidator(_text_of_number), StringConstraints(min_length=1, max_length=155)]
EventId = Annotated[str, BeforeValidator(_text_of_number), StringConstraints(min_length=1, max_length=300)]
Short = Annotated[str, BeforeValidator(_text_of_number), StringConstraints(max_length=2000)]
LongText = Annotated[str, StringConstraints(strip_whitespace=True, max_length=8000)]
Moment = Annotated[datetime | None, BeforeValidator(_parse_moment)]
"""Seconds or milliseconds since 1970, as a number or as digits, or ISO 8601 (UTC unless it names an offset)."""


class PlatformPayload(BaseModel):
    """A part of a platform's payload."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Participant(PlatformPayload):
    """A sender or recipient; a person who is not logged in has only a `user_ref`."""

    id: PlatformId | None = None
    user_ref: PlatformId | None = None


class AdContext(PlatformPayload):
    """The ad that a person clicked."""

    ad_title: Short | None = None
    post_id: Short | None = None
    product_id: Short | None = None


class Referral(PlatformPayload):
    """How a person entered the thread: by an ad (`source` is ADS) or a link."""

    ref: Short | None = None
    source: Short | None = None
    type: Short | None = None
    ad_id: PlatformId | None = None
    referer_uri: Short | None = None
    ads_context_data: AdContext | None = None


class Attachment(PlatformPayload):
    """A picture, file, sticker, template …; only its type and URL are used."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    payload: dict[str, Any] | None = None


class QuickReply(PlatformPayload):
    """The button that a message came from."""

    payload: Short | None = None


class PageMessage(PlatformPayload):
    """A message that a person wrote to a page."""

    mid: EventId
    text: LongText | None = None
    attachments: list[Attachment] = Field(default=[], max_length=100)
    quick_reply: QuickReply | None = None
    referral: Referral | None = None


class PagePostback(PlatformPayload):
    """A pressed button; older API versions send no `mid`."""

    mid: EventId | None = None
    title: LongText | None = None
    payload: Short | None = None
    referral: Referral | None = None


class Messaging(PlatformPayload):
    """One item of an entry's `messaging`."""

    sender: Participant
    recipient: Participant | None = None
    timestamp: Moment = None
    message: PageMessage | None = None
    postback: PagePostback | None = None
    referral: Referral | None = None


class LeadgenChange(PlatformPayload):
    """The value of a `leadgen` change. It has ids only; the form's answers are in the Graph API."""

    leadgen_id: EventId
    page_id: PlatformId | None = None
    form_id: PlatformId | None = None
    ad_id: PlatformId | None = None
    adgroup_id: PlatformId | None = None
    created_time: Moment = None


class LeadColumn(PlatformPayload):
    """One answered field of a Google lead form."""

    column_id: Annotated[str, StringConstraints(max_length=200)] | None = None
    column_name: Annotated[str, StringConstraints(max_length=500)] | None = None
    string_value: Short


class GoogleLead(PlatformPayload):
    """A submitted Google lead form, without the key that authenticates it."""

    lead_id: EventId
    user_column_data: list[Any] = Field(default=[], max_length=200)
    api_version: Short | None = None
    form_id: PlatformId | None = None
    campaign_id: PlatformId | None = None
    adgroup_id: PlatformId | None = None
    creative_id: PlatformId | None = None
    asset_group_id: PlatformId | None = None
    gcl_id: Short | None = None
    lead_submit_time: Moment = None
    is_test: bool = False


class GenericCustomer(PlatformPayload):
    """The customer of a generic event."""

    id: PlatformId | None = None
    name: Annotated[str, StringConstraints(max_length=200)] | None = None
    email: Annotated[str, StringConstraints(max_length=254)] | None = None
    phone: Annotated[str, BeforeValidator(_text_of_number), StringConstraints(max_length=40)] | None = None


class GenericText(PlatformPayload):
    """A message given as an object."""

    text: LongText | None = None


class GenericEvent(PlatformPayload):
    """The event of a generic source; every field is optional."""

    id: EventId | None = Field(default=None, validation_alias=AliasChoices("event_id", "id"))
    type: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, validation_alias=AliasChoices("type", "event")
    )
    text: LongText | None = None
    message: LongText | GenericText | None = None
    customer: GenericCustomer = GenericCustomer()
    conversation_id: PlatformId | None = None
    is_test: bool = Field(default=False, validation_alias=AliasChoices("is_test", "test"))
    occurred_at: Moment = Field(default=None, validation_alias=AliasChoices("occurred_at", "timestamp", "created_at"))


class ParsedEvent(BaseModel):
    """One event of a delivery."""

    model_config = ConfigDict(frozen=True)

    event_id: str = Field(min_length=1, max_length=300)
    """Unique within its source; a repeat of the event has the same id."""
    kind: Kind
    occurred_at: datetime | None = None
    is_test: bool = False
    data: dict[str, Any] = Field(default_factory=dict)
    """The fields that are stored, without secrets."""
    interaction: Interaction | None = None
    """The follow-up task's payload; None when the event is only recorded."""


class ParsedDelivery(BaseModel):
    """The content of one request: its events, and a sentence about each part that could not be parsed."""

    model_config = ConfigDict(frozen=True)

    events: list[ParsedEvent] = []
    problems: list[str] = []


class StoredDelivery(Payload):
    """Payload of the `process_*_webhook_task`s: a verified request that is stored."""

    delivery_id: Identifier


class WebhookReceipt(Response):
    """The delivery is stored and queued."""

    status: Literal["queued"] = "queued"
    delivery_id: str
    task_id: str
    duplicate: bool = Field(description="True when the same body was delivered before: nothing new was queued")
