"""Sends outbound webhooks: makes the body, signs it, POSTs it, and interprets the response.

The rules are those of Standard Webhooks (https://www.standardwebhooks.com):

- The body is `{"type", "timestamp", "data"}`.
- A 2xx within the timeout is success. 410 means that the receiver is gone for good.
- Every other response, or none, is a failure that is retried on `OUTBOUND_SCHEDULE`. This includes redirects and other
  4xx responses: a receiver that is being deployed or reconfigured may send them for a while.
- The `Retry-After` of 429 and 503 may make the wait longer, never shorter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from laneway.platform import clock, tracing
from laneway.platform.errors import InvalidPayload, PermanentError, UpstreamError
from laneway.platform.retry_after import retry_after
from laneway.platform.settings import OutboundSettings
from laneway.platform.webhooks import egress
from laneway.platform.webhooks.address_rules import AllowPrivate
from laneway.platform.webhooks.signing import sign_outbound

OUTBOUND_SCHEDULE: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0)
"""Seconds before the second to eighth attempt (5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h), as the specification
suggests; about 31 hours in all. `RetryPolicy` adds the jitter."""

GONE: Final = 410
THROTTLED: Final = (429, 503)
_DELIVERY_ID = re.compile(r"[!-~]{1,200}")


class EndpointGone(PermanentError):
    """The receiver answered 410: it wants no more webhooks."""

    title = "Endpoint gone"

    template = "{url} answered 410 Gone: it wants no more webhooks."
    url: str


class Sender:
    """Signs bodies with the secrets of their receiver and POSTs them."""

    def __init__(self, settings: OutboundSettings) -> None:
        self._timeout = settings.timeout
        self._allow_private = _allow_private(settings)

    def check(self, delivery_id: str) -> None:
        """Raise InvalidPayload for an id that cannot be sent."""
        if not _DELIVERY_ID.fullmatch(delivery_id):
            raise InvalidPayload("the outbound webhook", ["its id is not 1 to 200 visible ASCII characters"])

    def post(self, url: str, body: str, *, keys: Sequence[bytes], delivery_id: str) -> egress.HttpResponse:
        """Send one POST, signed with each of these keys, and return the response, whatever its status.

        `delivery_id` stays the same for all attempts. Raises ForbiddenAddress (permanent), UpstreamError (retry), and
        what `check` raises.
        """
        self.check(delivery_id)
        headers = {
            "Content-Type": "application/json",
            **sign_outbound(body, keys, message_id=delivery_id, at=clock.now()),
        }
        send = partial(
            egress.send, "POST", url, body.encode(), timeout=self._timeout, allow_private=self._allow_private
        )
        if (spans := tracing.active) is not None:
            return spans.post(url, headers, send)
        return send(headers=headers)


def delivery_body(event: str, data: Mapping[str, Any], *, occurred_at: datetime) -> str:
    """Return the body, which is the same for each attempt. Raises InvalidPayload for data that is not JSON."""
    timestamp = occurred_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    content = {"type": event, "timestamp": timestamp, "data": data}
    try:
        return json.dumps(content, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidPayload("the outbound webhook", ["its data is not JSON"]) from None


def raise_unless_successful(response: egress.HttpResponse, url: str, *, attempt: int) -> None:
    """Raise EndpointGone or UpstreamError unless the response to the `attempt`-th POST (from 1) is a success."""
    if 200 <= response.status < 300:
        return
    if response.status == GONE:
        raise EndpointGone(url)
    wait = None
    if response.status in THROTTLED:
        wait = retry_after(response.headers.get("retry-after"), at=clock.now())
    raise UpstreamError(url, f"it answered {response.status}", _if_longer_than_schedule(wait, attempt))


def _allow_private(settings: OutboundSettings) -> AllowPrivate:
    if settings.allow_private:
        return AllowPrivate.ALL
    return AllowPrivate.LOOPBACK if settings.allow_loopback else AllowPrivate.NONE


def _if_longer_than_schedule(wait: float | None, attempt: int) -> float | None:
    """Return the wait that the receiver asks for if it is longer than the schedule's; None: use the schedule."""
    scheduled = OUTBOUND_SCHEDULE[min(max(attempt, 1), len(OUTBOUND_SCHEDULE)) - 1]
    return math.ceil(wait) if wait is not None and wait > scheduled else None
