"""Outbound webhooks: receivers, deliveries, attempts, replays."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import ConfigDict, Field, StrictBool, model_validator

from laneway.schemas.choices import EndpointState
from laneway.schemas.model import Model
from laneway.schemas.moment import EARLIEST, LATEST, FilterMoment, Moment
from laneway.schemas.number import Whole
from laneway.schemas.payload import Payload
from laneway.schemas.task import Response, TaskState
from laneway.schemas.text import Text


class OutboundWebhook(Payload):
    """Payload of `send_webhook_response_task`."""

    url: str = Field(max_length=2000, pattern=r"^https?://")
    event: str = Field(min_length=1, max_length=100)
    data: dict[str, Any]
    occurred_at: Moment | None = None
    """When the event happened. None: when the task was accepted.

    It is a part of the payload, so the same task id with another time is a conflict."""

    @model_validator(mode="after")
    def _require_plausible_time(self) -> OutboundWebhook:
        if self.occurred_at and not EARLIEST <= self.occurred_at < LATEST:
            raise ValueError(f"occurred_at must be between {EARLIEST:%Y} and {LATEST:%Y}")
        return self


class Receipt(Model):
    """The receipt of a delivered webhook."""

    model_config = ConfigDict(frozen=True)

    delivery_id: str
    event: str
    status: int
    duration_ms: int
    url: str
    """The address without user, query and fragment, which may contain secrets."""
    attempt: int


class EndpointView(Response):
    """One receiver."""

    endpoint_id: str
    url: str = Field(description="Without user, query and fragment, which may hold secrets")
    state: EndpointState
    consecutive_failures: int
    failing_since: datetime | None = Field(description="The first failure of the current series of failures")
    last_failure_at: datetime | None
    last_success_at: datetime | None
    last_error: str | None
    disabled_at: datetime | None
    reason: str | None = Field(description="Why it is disabled: gone (it answered 410), failing, or operator")
    created_at: datetime
    seen_at: datetime = Field(description="When an attempt at a delivery to it last began or was refused")


class EndpointsResponse(Response):
    """Receivers, the most recently used first."""

    endpoints: list[EndpointView]


class DeliveryView(Response):
    """One delivery."""

    delivery_id: str = Field(description="The id of its task and the value of its `webhook-id` header")
    endpoint_id: str
    url: str = Field(description="Without user, query and fragment")
    event: str
    state: TaskState
    attempts: int = Field(description="Number of POSTs so far, replays included")
    status: int | None = Field(description="HTTP status of the newest response")
    error: str | None
    occurred_at: datetime
    created_at: datetime = Field(description="Time of the first attempt")


class DeliveryPage(Response):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryView]
    next: int | None = Field(description="`before` of the next page; null on the last page")


class DeliveryAttemptView(Response):
    """One attempt: one POST."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    status: int | None
    duration_ms: int | None
    error_type: str | None
    error: str | None
    answer: str | None = Field(description="The first 1024 bytes of the response body, as text")
    request_headers: list[str] = Field(description="Names of the headers of the request")


class DeliveryDetailsView(Response):
    """One delivery with the attempts that are kept, oldest first, and the body that is sent."""

    delivery: DeliveryView
    attempts: list[DeliveryAttemptView]
    body: str


class ReplayRequest(Model):
    """Select the deliveries to send again: by receiver, by time, or by both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"endpoint": "5d0c6a1f3b7e9a245d0c6a1f3b7e9a24", "dry_run": True}]},
    )

    endpoint: Text | None = Field(None, description="Id of the receiver")
    event: Text | None = None
    since: FilterMoment | None = Field(None, description="First attempted at this time or later")
    until: FilterMoment | None = Field(None, description="First attempted before this time")
    only_failed: StrictBool = Field(True, description="False: include delivered, cancelled and expired ones")
    after: Whole = Field(0, ge=0, le=2**63 - 1, description="`next` of the previous call")
    limit: Whole = Field(100, ge=1, le=1000)
    dry_run: StrictBool = Field(False, description="Report how many and which, and change nothing")

    @model_validator(mode="after")
    def _require_a_criterion(self) -> Self:
        if self.endpoint is None and self.since is None:
            raise ValueError("select by endpoint, since, or both")
        return self


class ReplayResponse(Response):
    """The outcome of a replay, or of its dry run."""

    matched: int = Field(description="Number of all matching deliveries, including those beyond `limit`")
    done: int
    dry_run: bool
    samples: list[str] = Field(description="Ids of some matching deliveries")
    refused: dict[str, str] = Field(description="Id → why the delivery was not sent again")
    next: int | None = Field(description="`after` of the next call; null when nothing is left")
