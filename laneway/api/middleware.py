"""Around each request: its id, its size limit, one log line."""

from __future__ import annotations

import re
from time import monotonic
from urllib.parse import quote
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laneway.api.errors import BodyTooLarge, http_problem, unexpected
from laneway.platform.logging import bind, logger, unbind_all

log = logger(__name__)

LONGEST_LENGTH = 19
"""Digits of a Content-Length; Python refuses to read numbers of thousands of digits."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RequestContext:
    """Takes the caller's `X-Request-ID` or makes one, binds it to every log line, gives it back.

    Errors that nobody foresaw are answered here, so that their answers carry the id, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
        unbind_all()
        bind(request_id=request_id)
        began, status = monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            refusal = unexpected(scope["path"], error)
            if status:  # half of an answer is out already; the server can only hang up
                raise
            await refusal(scope, receive, answer)
        finally:
            said = log.debug if scope["path"].startswith("/health/") else log.info
            said(
                "request",
                method=scope["method"],
                path=_printable(scope),
                status=status,
                ms=round((monotonic() - began) * 1000, 1),
            )
        return None


def _printable(scope: Scope) -> str:
    """The path as it came, percent-encoded: a log must not take control characters from strangers."""
    return quote(scope["path"], errors="replace")[:200]


class BodyLimit:
    """Refuses bodies over the limit with 413, by their declared length, or as soon as more arrives."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and (len(declared) > LONGEST_LENGTH or int(declared) > self._limit):
            return await http_problem(scope["path"], BodyTooLarge(self._limit))(scope, receive, send)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise BodyTooLarge(self._limit)
            return message

        return await self._app(scope, counted, send)
