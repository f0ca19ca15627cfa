"""Middleware: the request id, one log line per request, the size limit of bodies, and HEAD."""

from __future__ import annotations

import re
from asyncio import Event
from time import monotonic
from typing import Final
from urllib.parse import quote
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laneway.api.errors import BodyTooLarge, http_problem, unexpected_error
from laneway.platform import tracing
from laneway.platform.logging import bind, logger, unbind_all

log = logger(__name__)

LONGEST_LENGTH = 19
"""Most digits of a Content-Length that is parsed. Python refuses to parse numbers with thousands of digits."""
SAFE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Headers of each response that does not have its own: a browser shows it in no other page, loads nothing for it and
keeps no copy. A page sets the policy that it needs."""
LONGEST_PATH = 2000
"""Characters of a path, more than any route has. Starlette fails on a number of more than 4300 digits in a path."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RequestContext:
    """Takes the caller's `X-Request-ID` or generates one, and adds it to every log line and to the response.

    It also handles unexpected errors, so that their responses carry the id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        callers_id = Headers(scope=scope).get("x-request-id", "")
        request_id = callers_id if REQUEST_ID.fullmatch(callers_id) else uuid4().hex
        unbind_all()
        bind(request_id=request_id)
        if (spans := tracing.active) is not None:
            bind(trace_id=spans.trace_id())
        began, status = monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            response = unexpected_error(scope["path"], error)
            if status:  # the response has already begun; the server can only close the connection
                raise
            await response(scope, receive, send_with_id)
        finally:
            write = log.debug if scope["path"].startswith("/health/") else log.info
            write(
                "request",
                method=scope["method"],
                path=_quoted_path(scope),
                status=status,
                ms=round((monotonic() - began) * 1000, 1),
            )
        return None


def _quoted_path(scope: Scope) -> str:
    """Return the percent-encoded path, so that a request cannot write control characters into the log."""
    return quote(scope["path"], errors="replace")[:200]


class BodyLimit:
    """Refuses a body over the limit with 413: by its declared length, or as soon as more bytes arrive.

    It also refuses a path that is too long, with 414.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if len(scope["path"]) > LONGEST_PATH:
            return await http_problem("/", HTTPException(414, "The path is too long."))(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and (len(declared) > LONGEST_LENGTH or int(declared) > self._limit):
            return await http_problem(scope["path"], BodyTooLarge(self._limit))(scope, receive, send)
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise BodyTooLarge(self._limit)
            return message

        return await self._app(scope, receive_counted, send)


class HeadAsGet:
    """Answers HEAD as GET, without the body. An endless answer, such as a stream of events, ends after its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self._app(scope, receive, send)
        answered, request_read = Event(), False

        async def receive_until_answered() -> Message:
            nonlocal request_read
            if not request_read:
                message = await receive()
                request_read = not message.get("more_body", False)
                return message
            await answered.wait()
            return {"type": "http.disconnect"}

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                answered.set()

        return await self._app({**scope, "method": "GET"}, receive_until_answered, send_headers)
