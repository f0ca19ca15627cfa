"""Answers `POST /tasks` without FastAPI's routing and without a thread for each request.

Both cost more than the submission itself. What comes in while a thread accepts submissions is accepted together, next.

The route goes on to answer whatever is not an ordinary submission: a query, another type of content, a large body, one
that is not valid, one for which others would wait, a request with a trace. So it alone says what is wrong with a
request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextvars import copy_context
from typing import Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laneway.api.errors import http_problem, platform_problem
from laneway.api.submission_groups import SubmissionGroups
from laneway.api.threads import seconds_to_wait
from laneway.platform import tracing
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import PlatformError
from laneway.platform.platform import Platform
from laneway.platform.submission.requests import with_present_name
from laneway.platform.submission.submit_call import SubmitCall
from laneway.schemas.choices import DurabilityName
from laneway.schemas.history import TaskRequest
from laneway.schemas.task import TaskHandle

PATH: Final = "/tasks"
JSON_TYPES: Final = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
LARGEST: Final = 32_768
"""Bytes of a body. A larger one may have to go to the object storage, for which the others of its group would wait."""


class DirectSubmit:
    """Answers ordinary submissions. It stands behind the authentication, in the place of the route."""

    def __init__(self, app: ASGIApp, api: FastAPI) -> None:
        self._app, self._api = app, api
        self._groups = SubmissionGroups(self._accept)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_ordinary(scope):
            return await self._app(scope, receive, send)
        messages: list[Message] = []
        try:
            request = _parsed(await _body(receive, messages))
        except HTTPException as error:  # the body is over the limit
            return await http_problem(PATH, error)(scope, receive, send)
        if request is None or self._is_alone(request):
            return await self._app(scope, _again(messages, receive), send)
        seconds = seconds_to_wait()
        with limit_waits(seconds):
            context = copy_context()
        try:
            handle = with_present_name(await self._groups.submit(request, context, seconds), request.task)
        except PlatformError as error:
            return await platform_problem(PATH, error)(scope, receive, send)
        body = handle.model_dump_json().encode()
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 202 if handle.created else 200, "headers": headers})
        return await send({"type": "http.response.body", "body": body})

    def _is_alone(self, request: TaskRequest) -> bool:
        """Whether others would wait for a request: it asks a replica or other tasks, or the broker takes no groups."""
        rules = (request.unique, request.debounce, request.throttle, request.if_busy)
        is_plain = rules == (None, None, None, None) and request.durability is DurabilityName.MEMORY
        platform: Platform = self._api.state.services
        return not is_plain or platform.broker.engine is None

    def _accept(self, calls: Sequence[SubmitCall]) -> list[TaskHandle | Exception]:
        platform: Platform = self._api.state.services
        return platform.tasks.submit_group(calls)


def _is_ordinary(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != PATH or scope["query_string"]:
        return False
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    small = length.isdigit() and len(length) < len(str(LARGEST)) + 1 and int(length) <= LARGEST
    return small and headers.get(b"content-type", b"").lower() in JSON_TYPES and tracing.active is None


async def _body(receive: Receive, messages: list[Message]) -> bytes | None:
    """The body; None if the caller is gone. The messages are kept, so that the route can read them again."""
    more = True
    while more:
        messages.append(message := await receive())
        if message["type"] != "http.request":
            return None
        more = message.get("more_body", False)
    return b"".join(message.get("body", b"") for message in messages)


def _parsed(body: bytes | None) -> TaskRequest | None:
    """The request; None if it is not valid."""
    try:
        return None if body is None else TaskRequest.model_validate(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _again(messages: list[Message], receive: Receive) -> Receive:
    """A `receive` that gives these messages first."""
    waiting = iter(messages)

    async def receive_again() -> Message:
        for message in waiting:
            return message
        return await receive()

    return receive_again
