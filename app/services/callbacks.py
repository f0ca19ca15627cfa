"""Outbound webhooks: sign, post, and make of the receiver's answer what the task should do next.

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

from app.core import clock
from app.core.config import WebhookSettings
from app.core.errors import InvalidPayload, NotConfigured, PermanentError, UpstreamError
from app.schemas.webhook import Receipt
from app.services import egress
from app.services.signing import outbound_key, sign_outbound

OUTBOUND_SCHEDULE: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0)
"""Seconds before the second to eighth attempt (5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h), as the specification
suggests; about 31 hours in all. `RetryPolicy` adds the jitter."""

GONE: Final = 410
THROTTLED: Final = (429, 503)
_DELIVERY_ID = re.compile(r"[!-~]{1,200}")


class EndpointGone(PermanentError):
    """The receiver answered 410: it wants no more webhooks."""

    title = "Endpoint gone"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def __str__(self) -> str:
        return f"{self.url} answered 410 Gone: it wants no more webhooks."


class Callbacks:
    """Delivers outbound webhooks with the platform's secret. Raises ConfigError when the secret is malformed."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._key = outbound_key(settings.outbound_secret) if settings.outbound_secret else None
        self._timeout = settings.outbound_timeout
        self._allow_private = settings.outbound_allow_private

    def deliver(
        self, *, url: str, event: str, data: Mapping[str, Any], delivery_id: str, attempt: int,
        occurred_at: datetime | None = None,
    ) -> Receipt:  # fmt: skip
        """Make one attempt, the `attempt`-th (from 1); `delivery_id` stays the same for all of them.

        Raises EndpointGone and ForbiddenAddress (permanent), UpstreamError (to be tried again), NotConfigured without
        OUTBOUND_WEBHOOK_SECRET, and InvalidPayload for what cannot be sent. Without `occurred_at` the body bears the
        time of this attempt.
        """
        if self._key is None:
            raise NotConfigured("Sending webhooks", "OUTBOUND_WEBHOOK_SECRET")
        if not _DELIVERY_ID.fullmatch(delivery_id):
            raise InvalidPayload("the outbound webhook", ["its id is not 1 to 200 visible ASCII characters"])
        at = clock.now()
        body = _body(event, data, occurred_at=occurred_at or at)
        headers = {
            "Content-Type": "application/json",
            **sign_outbound(body, self._key, message_id=delivery_id, at=at),
        }
        answer = egress.post(
            url, body.encode(), headers=headers, timeout=self._timeout, allow_private=self._allow_private
        )
        _judge(answer, egress.shown(url), attempt=attempt, at=clock.now())
        return Receipt(
            delivery_id=delivery_id,
            event=event,
            status=answer.status,
            duration_ms=answer.duration_ms,
            url=egress.shown(url),
            attempt=attempt,
        )


def _body(event: str, data: Mapping[str, Any], *, occurred_at: datetime) -> str:
    stamp = occurred_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    content = {"type": event, "timestamp": stamp, "data": data}
    try:
        return json.dumps(content, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidPayload("the outbound webhook", ["its data is not JSON"]) from None


def _judge(answer: egress.HttpAnswer, url: str, *, attempt: int, at: datetime) -> None:
    if 200 <= answer.status < 300:
        return
    if answer.status == GONE:
        raise EndpointGone(url)
    asked = egress.retry_after(answer.headers.get("retry-after"), at=at) if answer.status in THROTTLED else None
    raise UpstreamError(url, f"it answered {answer.status}", _no_sooner(asked, attempt))


def _no_sooner(asked: float | None, attempt: int) -> float | None:
    """What the receiver asked for, if that is longer than the schedule; None leaves it to the schedule."""
    step = OUTBOUND_SCHEDULE[min(max(attempt, 1), len(OUTBOUND_SCHEDULE)) - 1]
    return math.ceil(asked) if asked is not None and asked > step else None
