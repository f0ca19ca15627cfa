"""Reads how long a service asks to wait (RFC 9110, 10.2.3), from a header or from the error of an HTTP client."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from laneway.platform.errors import UpstreamError
from laneway.platform.execution.retry import LONGEST_WAIT

_SECONDS: Final = re.compile(r"\d{1,9}", re.ASCII)
ASKING: Final = frozenset({429, 503})
"""Too Many Requests, and Service Unavailable."""
MOST_CAUSES: Final = 5


def retry_after(value: str | None, *, at: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, from 0 to a day; None if it is missing or invalid.

    The header holds seconds or an HTTP date.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - at).total_seconds(), 0.0), LONGEST_WAIT)


def asked_wait(error: BaseException, *, at: datetime) -> float | None:
    """Return the seconds that a service has asked to wait, from 0 to a day, as an error of its client tells; else None.

    It tells so if it, or an error that it was raised from, is an UpstreamError with a wait, or has a response with the
    status 429 or 503 and the header Retry-After. So have those of httpx, requests and the SDKs that are built on them.
    """
    return next((wait for each in _causes(error) if (wait := _told_by(each, at=at)) is not None), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    for _ in range(MOST_CAUSES):
        if each is None:
            return
        yield each
        each = each.__cause__


def _told_by(error: BaseException, *, at: datetime) -> float | None:
    if isinstance(error, UpstreamError):
        wait = error.retry_after
        return None if wait is None or math.isnan(wait) else min(max(wait, 0.0), LONGEST_WAIT)
    with suppress(Exception):  # an object of somebody else, whose attributes may do anything
        return _of_response(error, at=at)
    return None


def _of_response(error: Any, *, at: datetime) -> float | None:
    response = getattr(error, "response", None)
    if response is None or getattr(response, "status_code", None) not in ASKING:
        return None
    headers = response.headers
    value = headers.get("Retry-After") or headers.get("retry-after")  # a plain dict tells cases apart
    return retry_after(value, at=at) if isinstance(value, str) else None
