"""When a receiver of webhooks is disabled, and how many deliveries it may have at a time: pure rules on its row.

An endpoint is disabled at once by a 410, and by days of nothing but failures: the first and the newest failure are so
long apart, nothing succeeded in between, and it was never left alone for as long (the failures of one bad day a month
are no row of failures).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from laneway.platform.db.models import OutboundEndpoint
from laneway.platform.db.queries.outbound_webhooks import DISABLED, ENABLED, OPERATOR

ALERT: Final = "endpoint_disabled"
"""The kind of its alert; the subject is the endpoint's id."""
GONE, FAILING = "gone", "failing"
SUSPECT: Final = 3
"""Failures in a row from which on an endpoint gets one delivery at a time: it most likely only costs time."""


@dataclass(frozen=True, slots=True)
class Rules:
    """`disable_after`: days of nothing but failures; `in_flight`: deliveries at a time to one endpoint."""

    disable_after: timedelta
    in_flight: int

    def limit(self, endpoint: OutboundEndpoint) -> int:
        """How many deliveries it may have in flight."""
        return 1 if endpoint.consecutive_failures >= SUSPECT else self.in_flight

    def verdict(self, endpoint: OutboundEndpoint, *, at: datetime) -> str | None:
        """Why it is to be disabled now, if it is."""
        since = endpoint.failing_since
        return FAILING if since is not None and at - since >= self.disable_after else None


def succeeded(endpoint: OutboundEndpoint, *, at: datetime) -> None:
    """It took a delivery; one that was disabled meanwhile stays so, and keeps what led to it."""
    endpoint.last_success_at = at
    if endpoint.state == ENABLED:
        endpoint.failing_since, endpoint.consecutive_failures, endpoint.last_error = None, 0, None


def failed(endpoint: OutboundEndpoint, error: str, *, at: datetime, rules: Rules) -> None:
    """It did not; after a pause as long as the rule's days the row of failures begins anew."""
    last = endpoint.last_failure_at
    if endpoint.failing_since is None or last is None or at - last >= rules.disable_after:
        endpoint.failing_since, endpoint.consecutive_failures = at, 0
    endpoint.consecutive_failures += 1
    endpoint.last_failure_at, endpoint.last_error = at, error


def disable(endpoint: OutboundEndpoint, reason: str, *, at: datetime) -> None:
    """Send nothing to it any more."""
    endpoint.state, endpoint.reason, endpoint.disabled_at = DISABLED, reason, at


def enable(endpoint: OutboundEndpoint) -> None:
    """Send to it again, as if it had never failed."""
    endpoint.state, endpoint.reason, endpoint.disabled_at = ENABLED, None, None
    endpoint.failing_since, endpoint.last_failure_at, endpoint.consecutive_failures = None, None, 0


def complaint(endpoint: OutboundEndpoint) -> str:
    """What an operator is told about an endpoint that was disabled for a cause."""
    why = "it answered 410 Gone"
    if endpoint.reason == FAILING and endpoint.failing_since is not None:
        why = f"it has only failed since {endpoint.failing_since:%Y-%m-%d %H:%M} UTC"
    if endpoint.reason == OPERATOR:
        why = "somebody disabled it"
    return f"no more webhooks go to {endpoint.url}: {why} (`laneway callbacks enable {endpoint.id}`)"
