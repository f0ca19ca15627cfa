"""The HTTP transport to the model endpoint: bounds what a response may send, and says which refusals are final.

The SDK reads whole bodies, with a time-out for each read only. So a server could fill the memory, or hold a worker by
sending one byte at a time. And it repeats every 429, also when the account is out of credit.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final, cast

import httpx2

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a response: many times the longest reply, with its thoughts."""
FINAL_CODES: Final = frozenset(
    {
        "access_terminated",
        "account_deactivated",
        "arrearage",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_too_low",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_quota",
        "quota_exceeded",
    }
)
"""Error codes, in lower case, that no later attempt can change: somebody has to look after the account."""


_HEADERS_OF_BODY: Final = frozenset({"content-encoding", "content-length", "transfer-encoding", "x-should-retry"})
"""Headers that say how the body was sent."""


class ResponseTooLarge(httpx2.ReadError):
    """The response has more bytes than MAX_BODY."""


class EndpointTransport(httpx2.BaseTransport):
    """Sends requests; the body of each response is read whole, within MAX_BODY and `timeout` seconds."""

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._transport = httpx2.HTTPTransport(trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request. Raises ResponseTooLarge, and the errors of httpx2."""
        deadline = time.monotonic() + self._timeout
        response = self._transport.handle_request(request)
        response.request = request
        try:
            body = _read(response, deadline)
        finally:
            response.close()
        headers = [(name, value) for name, value in response.headers.items() if name not in _HEADERS_OF_BODY]
        if response.status_code == 429 and any(code.lower() in FINAL_CODES for code in error_codes(body)):
            headers.append(("x-should-retry", "false"))  # The SDK obeys it.
        return httpx2.Response(response.status_code, headers=headers, content=body, extensions=response.extensions)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def _read(response: httpx2.Response, deadline: float) -> bytes:
    """The body, decompressed; the limit holds for what it grows to."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_BODY:
            raise ResponseTooLarge("the response is too large")
        if time.monotonic() > deadline:
            raise httpx2.ReadTimeout("the response took too long")
    return bytes(body)


def error_codes(body: bytes) -> list[str]:
    """The codes in the body of an error; none if it is not JSON."""
    try:
        value: Any = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return []
    if not isinstance(value, dict):
        return []
    fields = cast("dict[str, Any]", value)
    return codes_of(fields.get("error") or fields)


def codes_of(error: object) -> list[str]:
    """The code and the type of an error, as text; servers put either in either field."""
    if not isinstance(error, dict):
        return []
    fields = cast("dict[str, Any]", error)
    return [str(fields[name]) for name in ("code", "type") if fields.get(name)]
