"""Turns the rows of outbound webhooks into the views that the API and the command line show."""

from __future__ import annotations

from laneway.platform.bulk import BulkResult
from laneway.platform.db.models import OutboundAttempt, OutboundDelivery, OutboundDestination, OutboundEndpoint
from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
from laneway.platform.logging import without_secrets
from laneway.platform.webhooks.delivery_log import LoggedDelivery
from laneway.platform.webhooks.destinations import NewSecret
from laneway.platform.webhooks.egress import display_url
from laneway.platform.webhooks.event_webhooks import subscription_of
from laneway.schemas.outbound_destination import DestinationView, NewSecretResponse
from laneway.schemas.outbound_webhook import (
    DeliveryAttemptView,
    DeliveryDetailsView,
    DeliveryView,
    EndpointState,
    EndpointView,
    ReplayRequest,
    ReplayResponse,
)
from laneway.schemas.task import FINISHED


def describe_endpoint(endpoint: OutboundEndpoint) -> EndpointView:
    """Return the view of one receiver."""
    return EndpointView(
        endpoint_id=endpoint.id,
        url=display_url(endpoint.url),
        state=EndpointState(endpoint.state),
        reason=endpoint.reason,
        consecutive_failures=endpoint.consecutive_failures,
        failing_since=endpoint.failing_since,
        last_failure_at=endpoint.last_failure_at,
        last_success_at=endpoint.last_success_at,
        last_error=without_secrets(endpoint.last_error),
        disabled_at=endpoint.disabled_at,
        created_at=endpoint.created_at,
        seen_at=endpoint.seen_at,
    )


def describe_destination(destination: OutboundDestination) -> DestinationView:
    """Return the view of one destination, without its secret."""
    return DestinationView(
        name=destination.name,
        url=display_url(destination.url),
        created_at=destination.created_at,
        rotated_at=destination.rotated_at,
        previous_until=destination.previous_until,
        events=subscription_of(destination),
    )


def describe_new_secret(new: NewSecret) -> NewSecretResponse:
    """Return the view of a destination with its new secret."""
    return NewSecretResponse(destination=describe_destination(new.destination), secret=new.secret)


def describe_delivery(logged: LoggedDelivery) -> DeliveryView:
    """Return the view of one delivery."""
    delivery = logged.delivery
    return DeliveryView(
        delivery_id=delivery.id,
        endpoint_id=delivery.endpoint_id,
        url=display_url(delivery.url),
        event=delivery.event,
        state=logged.state,
        attempts=delivery.attempts,
        status=delivery.status,
        error=without_secrets(delivery.error),
        occurred_at=delivery.occurred_at,
        created_at=delivery.created_at,
    )


def describe_details(logged: LoggedDelivery) -> DeliveryDetailsView:
    """Return the view of one delivery with its attempts and its body."""
    attempts = [_describe_attempt(attempt) for attempt in logged.attempts]
    return DeliveryDetailsView(delivery=describe_delivery(logged), attempts=attempts, body=logged.delivery.body)


def describe_replay(result: BulkResult[OutboundDelivery]) -> ReplayResponse:
    """Return the view of a replay of many deliveries."""
    return ReplayResponse(
        matched=result.matched,
        done=result.done,
        dry_run=result.dry_run,
        samples=[delivery.id for delivery in result.samples],
        refused=result.refused,
        next=result.next,
    )


def replay_filter(request: ReplayRequest) -> DeliveryFilter:
    """What a request for a replay selects."""
    return DeliveryFilter(
        endpoint=request.endpoint,
        event=request.event,
        states=() if request.only_failed else FINISHED,
        since=request.since,
        until=request.until,
    )


def _describe_attempt(attempt: OutboundAttempt) -> DeliveryAttemptView:
    return DeliveryAttemptView(
        number=attempt.number,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        status=attempt.status,
        duration_ms=attempt.duration_ms,
        error_type=attempt.error_type,
        error=without_secrets(attempt.error),
        answer=attempt.answer,
        request_headers=attempt.request_headers,
    )
