"""Rows of outbound webhooks as callers see them."""

from __future__ import annotations

from laneway.platform.db.models import OutboundAttempt, OutboundEndpoint
from laneway.platform.schemas.outbound_webhook import (
    DeliveryAttemptView,
    DeliveryDetails,
    DeliveryView,
    EndpointState,
    EndpointView,
    Replayed,
)
from laneway.platform.webhooks.delivery_log import Entry, Replay
from laneway.platform.webhooks.egress import shown


def describe_endpoint(endpoint: OutboundEndpoint) -> EndpointView:
    """One receiver."""
    return EndpointView(
        endpoint_id=endpoint.id,
        url=endpoint.url,
        state=EndpointState(endpoint.state),
        reason=endpoint.reason,
        consecutive_failures=endpoint.consecutive_failures,
        failing_since=endpoint.failing_since,
        last_failure_at=endpoint.last_failure_at,
        last_success_at=endpoint.last_success_at,
        last_error=endpoint.last_error,
        disabled_at=endpoint.disabled_at,
        created_at=endpoint.created_at,
        seen_at=endpoint.seen_at,
    )


def describe_delivery(entry: Entry) -> DeliveryView:
    """One delivery."""
    one = entry.delivery
    return DeliveryView(
        delivery_id=one.id,
        endpoint_id=one.endpoint_id,
        url=shown(one.url),
        event=one.event,
        state=entry.state,
        attempts=one.attempts,
        status=one.status,
        error=one.error,
        occurred_at=one.occurred_at,
        created_at=one.created_at,
    )


def describe_details(entry: Entry) -> DeliveryDetails:
    """One delivery with its attempts and its body."""
    attempts = [_attempt(one) for one in entry.attempts]
    return DeliveryDetails(delivery=describe_delivery(entry), attempts=attempts, body=entry.delivery.body)


def describe_replay(done: Replay) -> Replayed:
    """What a replay did."""
    return Replayed(
        matched=done.matched,
        done=done.done,
        dry_run=done.dry_run,
        samples=done.samples,
        refused=done.refused,
        next=done.next,
    )


def _attempt(one: OutboundAttempt) -> DeliveryAttemptView:
    return DeliveryAttemptView(
        number=one.number,
        started_at=one.started_at,
        ended_at=one.ended_at,
        status=one.status,
        duration_ms=one.duration_ms,
        error_type=one.error_type,
        error=one.error,
        answer=one.answer,
        request_headers=one.request_headers,
    )
