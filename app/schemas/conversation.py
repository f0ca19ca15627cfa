"""Conversations: payloads of their tasks, requests and responses of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from laneway.schemas.payload import Identifier, Payload
from laneway.schemas.task import Response, TaskState

Channel = Literal["api", "facebook", "google", "webhook"]
PriorityName = Literal["LOW", "NORMAL", "HIGH", "CRITICAL"]


def _reject_null_bytes(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain null bytes")
    return value


WithoutNull = AfterValidator(_reject_null_bytes)
"""Rejects null bytes, which PostgreSQL cannot store. Runs after the length limits, which must see stripped text."""
NullFreePattern = Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
"""Documents the same rule in the JSON schema."""
FreeText = Annotated[str, StringConstraints(max_length=8000), WithoutNull, NullFreePattern]
MessageText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=8000),
    WithoutNull,
    Field(json_schema_extra={"pattern": r"^[^\x00]*\S[^\x00]*$"}),
]


class Customer(Payload):
    """The customer, as far as known."""

    id: Annotated[str, StringConstraints(max_length=155), WithoutNull, NullFreePattern] | None = None
    name: Annotated[str, StringConstraints(max_length=200), WithoutNull, NullFreePattern] | None = None
    email: Annotated[str, StringConstraints(max_length=254), WithoutNull, NullFreePattern] | None = None
    phone: Annotated[str, StringConstraints(max_length=40), WithoutNull, NullFreePattern] | None = None


class ConversationMessage(Payload):
    """Payload of `process_conversation_message_task`."""

    conversation_id: Identifier
    message: MessageText
    message_id: Identifier | None = None
    channel: Channel = "api"
    customer: Customer | None = None


class Interaction(Payload):
    """Payload of `process_manipulator_interaction_task`: an event on a platform, and the customer who caused it."""

    conversation_id: Identifier
    kind: Literal["ad_click", "lead_form", "page_message", "postback", "other"]
    channel: Channel
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=300), WithoutNull, NullFreePattern]
    message: FreeText | None = None
    customer: Customer = Customer()
    is_test: bool = False
    details: dict[str, Any] = Field(default_factory=dict)
    reply: MessageText | None = None
    """The outbound message. Without it the responder writes one."""


class Continuation(Payload):
    """Payload of `continue_conversation_async_task`."""

    conversation_id: Identifier
    reason: Literal["no_reply", "operator"]
    message: MessageText | None = None
    """The operator's message. Without it the responder writes one."""


class MessageRequest(Payload):
    """A customer's message that a client sends to the API."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"conversation_id": "conv-42", "message": "How long do I have to return a bicycle?"}],
        }
    )

    conversation_id: Identifier
    message: MessageText
    message_id: Identifier | None = Field(None, description="The caller's id; the same id gets one reply")
    customer: Customer | None = None
    priority: PriorityName = "NORMAL"
    async_processing: bool = Field(
        True, strict=True, description="False: wait for the reply up to REPLY_TIMEOUT_SECONDS"
    )


class InteractionRequest(Payload):
    """A platform interaction that one of your own systems sends to the API."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "conversation_id": "conv-43",
                    "kind": "ad_click",
                    "event_id": "click-1",
                    "channel": "google",
                    "customer": {"name": "Ada"},
                    "message": "Do you repair electric bikes?",
                }
            ],
        }
    )

    conversation_id: Identifier
    kind: Literal["ad_click", "lead_form", "page_message", "postback", "other"]
    event_id: Identifier = Field(description="Unique per interaction: the same id is processed once")
    channel: Channel = "webhook"
    message: FreeText | None = None
    customer: Customer = Customer()
    is_test: bool = Field(False, strict=True)
    async_processing: bool = Field(
        True, strict=True, description="False: wait for the reply up to REPLY_TIMEOUT_SECONDS"
    )


class Source(Response):
    """A passage that a reply cites."""

    document_id: str
    title: str
    position: int
    quote: str | None = None


class MessageAccepted(Response):
    """It is queued. With `async_processing: false` `response` is the reply, if that came in time."""

    conversation_id: str
    response: str = Field(description="The reply if `status` is `completed`, else a sentence about the task")
    status: TaskState
    task_id: str
    sources: list[Source] | None = None
    error: str | None = None


class MessageView(Response):
    """One turn of a conversation."""

    id: int = Field(description="Ids increase; pass the smallest as `before` to see earlier turns")
    role: str
    message: str
    created_at: datetime
    sources: list[Source] = Field(default_factory=list[Source])
    responder: str | None = None
    duration_ms: int | None = None
    task_id: str | None = None


class ConversationView(Response):
    """A conversation and its newest turns, oldest first."""

    conversation_id: str
    channel: str
    status: str
    customer: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    messages: list[MessageView]
    total_messages: int
    unanswered: int = Field(description="Accepted messages whose tasks have not ended yet")


class ConversationHead(Response):
    """A conversation in a list."""

    conversation_id: str
    channel: str
    status: str
    customer: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    newest_role: str | None = Field(description="Who wrote the newest message; null without a message")
    newest_message: str = Field(description="Its first characters")
