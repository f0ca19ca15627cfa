"""Around each request: its id, its size limit, one log line."""

from __future__ import annotations

import re
from time import monotonic
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import problem_response
from app.core.logging import bind, logger, unbind_all

log = logger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RequestContext:
    """Takes the caller's `X-Request-ID` or makes one, binds it to every log line, gives it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
        unbind_all()
        bind(request_id=request_id)
        started, status = monotonic(), 500

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
        finally:
            said = log.debug if scope["path"].startswith("/health/") else log.info
            said("request", method=scope["method"], path=scope["path"][:200], status=status,
                     ms=round((monotonic() - started) * 1000, 1))  # fmt: skip
        return None


class BodyLimit:
    """Refuses bodies over the limit with 413, by their declared length, or as soon as more arrives."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limit:
            refusal = problem_response(scope["path"], status=413, title="Body too large", detail=self._sentence(),
                                       kind="body-too-large", headers={"Connection": "close"})  # fmt: skip
            return await refusal(scope, receive, send)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(413, self._sentence())
            return message

        return await self._app(scope, counted, send)

    def _sentence(self) -> str:
        return f"The body is larger than {self._limit} bytes (MAX_BODY_BYTES)."
