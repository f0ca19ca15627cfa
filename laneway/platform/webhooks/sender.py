"""Outbound webhooks on the wire: the body, its signature, the POST, and what the receiver's answer means.

The rules are those of Standard Webhooks (https://www.standardwebhooks.com): the body is
`{"type", "timestamp", "data"}`; 2xx within the timeout is success; 410 means that the receiver is gone for good; every
other answer, redirects included, and no answer at all is a failure that is tried again on `OUTBOUND_SCHEDULE`. Other
4xx answers too, because a receiver that is being deployed or reconfigured gives them and gets well again. 429 and 503
may name a longer wait, never a shorter one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from laneway.platform import clock
from laneway.platform.errors import InvalidPayload, NotConfigured, PermanentError, UpstreamError
from laneway.platform.settings import OutboundSettings
from laneway.platform.webhooks import egress
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
    """Signs with the platform's secrets and POSTs."""

    def __init__(self, settings: OutboundSettings) -> None:
        self._keys = settings.signing_keys
        self._timeout = settings.timeout
        self._allow_private: egress.Allowed = settings.allow_private
        if settings.allow_loopback and not settings.allow_private:
            self._allow_private = "loopback"

    def check(self, delivery_id: str) -> None:
        """Raise NotConfigured without OUTBOUND_WEBHOOK_SECRET, and InvalidPayload for an id that cannot be sent."""
        if not self._keys:
            raise NotConfigured("Sending webhooks", "OUTBOUND_WEBHOOK_SECRET")
        if not _DELIVERY_ID.fullmatch(delivery_id):
            raise InvalidPayload("the outbound webhook", ["its id is not 1 to 200 visible ASCII characters"])

    def post(self, url: str, body: str, *, delivery_id: str) -> egress.HttpResponse:
        """One signed POST; `delivery_id` stays the same for all attempts. Any status is an answer.

        Raises ForbiddenAddress (permanent), UpstreamError (to be tried again), and what `check` does.
        """
        self.check(delivery_id)
        headers = {
            "Content-Type": "application/json",
            **sign_outbound(body, self._keys, message_id=delivery_id, at=clock.now()),
        }
        return egress.post(
            url, body.encode(), headers=headers, timeout=self._timeout, allow_private=self._allow_private
        )


def body_of(event: str, data: Mapping[str, Any], *, occurred_at: datetime) -> str:
    """The body, the same for each attempt. Raises InvalidPayload for what is not JSON."""
    stamp = occurred_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    content = {"type": event, "timestamp": stamp, "data": data}
    try:
        return json.dumps(content, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidPayload("the outbound webhook", ["its data is not JSON"]) from None


def judge(answer: egress.HttpResponse, url: str, *, attempt: int) -> None:
    """Raise EndpointGone or UpstreamError when the answer to the `attempt`-th POST (from 1) is no success."""
    if 200 <= answer.status < 300:
        return
    if answer.status == GONE:
        raise EndpointGone(url)
    asked = (
        egress.retry_after(answer.headers.get("retry-after"), at=clock.now()) if answer.status in THROTTLED else None
    )
    raise UpstreamError(url, f"it answered {answer.status}", _no_sooner(asked, attempt))


def _no_sooner(asked: float | None, attempt: int) -> float | None:
    """What the receiver asked for, if that is longer than the schedule; None leaves it to the schedule."""
    step = OUTBOUND_SCHEDULE[min(max(attempt, 1), len(OUTBOUND_SCHEDULE)) - 1]
    return math.ceil(asked) if asked is not None and asked > step else None
