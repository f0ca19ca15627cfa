"""Outbound webhooks as callers see them: receivers, deliveries, attempts, replays."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from laneway.platform.payload import Payload
from laneway.platform.schemas.history import Text
from laneway.platform.schemas.moment import EARLIEST, LATEST, Moment, within_reach
from laneway.platform.schemas.task import Response, TaskState

Reachable = Annotated[Moment, AfterValidator(within_reach)]


class OutboundWebhook(Payload):
    """Payload of `send_webhook_response_task`."""

    url: str = Field(max_length=2000, pattern=r"^https?://")
    event: str = Field(min_length=1, max_length=100)
    data: dict[str, Any]
    occurred_at: Moment | None = None
    """When the event happened; without it, when the task was accepted. One task id, one time: it is of the payload."""

    @model_validator(mode="after")
    def _of_these_days(self) -> OutboundWebhook:
        if self.occurred_at and not EARLIEST <= self.occurred_at < LATEST:
            raise ValueError(f"occurred_at must be between {EARLIEST:%Y} and {LATEST:%Y}")
        return self


class Receipt(BaseModel):
    """A delivered outbound webhook."""

    model_config = ConfigDict(frozen=True)

    delivery_id: str
    event: str
    status: int
    duration_ms: int
    url: str
    """Without user, query and fragment: they may hold secrets."""
    attempt: int


class EndpointState(StrEnum):
    """Whether webhooks are sent to a receiver."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class EndpointView(Response):
    """One receiver."""

    endpoint_id: str
    url: str = Field(description="Without user, query and fragment: they may hold secrets")
    state: EndpointState
    consecutive_failures: int
    failing_since: datetime | None = Field(description="The first of the failures that only failures followed")
    last_failure_at: datetime | None
    last_success_at: datetime | None
    last_error: str | None
    disabled_at: datetime | None
    reason: str | None = Field(description="Why it is disabled: gone (410), failing, operator")
    created_at: datetime
    seen_at: datetime = Field(description="When something was last to be sent to it")


class Endpoints(Response):
    """Some receivers, the last used first."""

    endpoints: list[EndpointView]


class DeliveryView(Response):
    """One delivery."""

    delivery_id: str = Field(description="The id of its task, and its `webhook-id`")
    endpoint_id: str
    url: str = Field(description="Without user, query and fragment")
    event: str
    state: TaskState
    attempts: int = Field(description="POSTs so far, replays included")
    status: int | None = Field(description="Of the newest answer")
    error: str | None
    occurred_at: datetime
    created_at: datetime = Field(description="When it was attempted for the first time")


class DeliveryPage(Response):
    """Some deliveries, newest first."""

    deliveries: list[DeliveryView]
    next: int | None = Field(description="`before` of the next page; none on the last")


class DeliveryAttemptView(Response):
    """One POST."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    status: int | None
    duration_ms: int | None
    error_type: str | None
    error: str | None
    answer: str | None = Field(description="The first 1024 bytes of the answer's body, as text")
    request_headers: list[str] = Field(description="The names of the headers that were sent")


class DeliveryDetails(Response):
    """One delivery with its kept attempts, oldest first, and the body that is sent."""

    delivery: DeliveryView
    attempts: list[DeliveryAttemptView]
    body: str


class ReplayRequest(BaseModel):
    """Which deliveries to send again: those of a receiver, of a time, or both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"endpoint": "5d0c6a1f3b7e9a245d0c6a1f3b7e9a24", "dry_run": True}]},
    )

    endpoint: Text | None = Field(None, description="The endpoint's id")
    event: Text | None = None
    since: Reachable | None = Field(None, description="First attempted at or after")
    until: Reachable | None = Field(None, description="First attempted before")
    only_failed: StrictBool = Field(True, description="False: delivered, cancelled and expired ones, too")
    after: int = Field(0, strict=True, ge=0, le=2**63 - 1, description="`next` of the call before")
    limit: int = Field(100, strict=True, ge=1, le=1000)
    dry_run: StrictBool = Field(False, description="Say how many and which, and do nothing")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.endpoint is None and self.since is None:
            raise ValueError("say which: endpoint, since, or both")
        return self


class Replayed(Response):
    """What was sent again, or would be."""

    matched: int = Field(description="All that fit, also beyond `limit`")
    done: int
    dry_run: bool
    samples: list[str] = Field(description="Ids of some of them")
    refused: dict[str, str] = Field(description="Id → why it was not sent again")
    next: int | None = Field(description="`after` of the next call; none when nothing is left")
