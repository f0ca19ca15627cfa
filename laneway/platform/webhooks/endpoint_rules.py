"""When a receiver of webhooks is disabled, and how many deliveries it may get at a time. The rules use its row only.

A response 410 disables an endpoint at once. Otherwise it is disabled when all of these are true:

- the first and the newest failure of a series are at least `disable_after` apart,
- no delivery succeeded in between,
- no pause between two failures was as long as `disable_after`: one bad day a month is not a series of failures.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from laneway.platform.db.models import OutboundEndpoint
from laneway.platform.db.queries.outbound_webhooks import DISABLED, ENABLED, OPERATOR

ALERT: Final = "endpoint_disabled"
"""The kind of the alert about a disabled endpoint; its subject is the endpoint's id."""
GONE, FAILING = "gone", "failing"
"""Reasons why an endpoint was disabled; the third one is `OPERATOR`."""
SUSPECT_AFTER: Final = 3
"""After this many failures in a row an endpoint gets only one delivery at a time: most likely each one fails slowly."""


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """The settings of the rules."""

    disable_after: timedelta
    """An endpoint is disabled when it has only failed for this long."""
    in_flight: int
    """Deliveries to one endpoint at a time."""

    def max_in_flight(self, endpoint: OutboundEndpoint) -> int:
        """Return how many deliveries this endpoint may have in flight."""
        return 1 if endpoint.consecutive_failures >= SUSPECT_AFTER else self.in_flight

    def disable_reason(self, endpoint: OutboundEndpoint, *, at: datetime) -> str | None:
        """Return why the endpoint is to be disabled now, or None."""
        since = endpoint.failing_since
        return FAILING if since is not None and at - since >= self.disable_after else None


def record_success(endpoint: OutboundEndpoint, *, at: datetime) -> None:
    """Record that a delivery succeeded. An endpoint that was disabled before that stays so and keeps its failures."""
    endpoint.last_success_at = at
    if endpoint.state == ENABLED:
        endpoint.failing_since, endpoint.consecutive_failures, endpoint.last_error = None, 0, None


def record_failure(endpoint: OutboundEndpoint, error: str, *, at: datetime, rules: EndpointRules) -> None:
    """Record that a delivery failed. After a pause as long as `disable_after` a new series of failures begins."""
    last = endpoint.last_failure_at
    if endpoint.failing_since is None or last is None or at - last >= rules.disable_after:
        endpoint.failing_since, endpoint.consecutive_failures = at, 0
    endpoint.consecutive_failures += 1
    endpoint.last_failure_at, endpoint.last_error = at, error


def disable(endpoint: OutboundEndpoint, reason: str, *, at: datetime) -> None:
    """Mark the endpoint as disabled: nothing is sent to it."""
    endpoint.state, endpoint.reason, endpoint.disabled_at = DISABLED, reason, at


def enable(endpoint: OutboundEndpoint) -> None:
    """Mark the endpoint as enabled and forget its failures."""
    endpoint.state, endpoint.reason, endpoint.disabled_at = ENABLED, None, None
    endpoint.failing_since, endpoint.last_failure_at, endpoint.consecutive_failures = None, None, 0


def alert_message(endpoint: OutboundEndpoint) -> str:
    """Return the text of the alert: why the endpoint was disabled, and the command that enables it."""
    why = "it answered 410 Gone"
    if endpoint.reason == FAILING and endpoint.failing_since is not None:
        why = f"it has only failed since {endpoint.failing_since:%Y-%m-%d %H:%M} UTC"
    if endpoint.reason == OPERATOR:
        why = "an operator disabled it"
    return f"no more webhooks go to {endpoint.url}: {why} (`laneway callbacks enable {endpoint.id}`)"
