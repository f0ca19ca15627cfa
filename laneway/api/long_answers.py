"""Answers of routes that may take minutes, such as an audit.

What is done within `AT_ONCE_SECONDS` is answered as by every route. Otherwise the answer begins with status 200 and a
space, which JSON allows before a value, and with another one every `BEAT_SECONDS`: so neither the caller nor a proxy
gives up. An error that comes later is the body then, with its own status. If the caller goes away, the work stops at
its next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from threading import Event
from typing import Any, Final, TypeAlias

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from laneway.api.errors import platform_problem, unexpected_error
from laneway.api.threads import write_in_thread
from laneway.api.waiting import hold
from laneway.platform.db.wait_limit import restart_limit
from laneway.platform.errors import PlatformError, RetryableError

AT_ONCE_SECONDS: Final = 5.0
BEAT_SECONDS: Final = 5.0
JSON: Final = "application/json"

Between: TypeAlias = Callable[[], None]
"""What the work calls between two steps. It raises CallerGone."""


class CallerGone(Exception):
    """Nobody waits for the answer any more."""


class Stopping(RetryableError):
    """The API stops."""

    template = "The API stops, and so did the work: repeat it when the API runs again. What was done stays done."


async def answer_when_done(request: Request, work: Callable[[Between], BaseModel]) -> Response:
    """Do work in a thread, and answer with what it returns."""
    gone = Event()

    def between() -> None:
        if gone.is_set():
            raise CallerGone
        restart_limit()

    job = asyncio.create_task(write_in_thread(work, between))
    job.add_done_callback(_look_at)
    try:
        await asyncio.wait({job}, timeout=AT_ONCE_SECONDS)
        if job.done():
            return Response(job.result().model_dump_json(), media_type=JSON)
        return StreamingResponse(hold(request, _beats(request, job, gone)), media_type=JSON)
    except BaseException:
        gone.set()
        raise


async def _beats(request: Request, job: asyncio.Task[BaseModel], gone: Event) -> AsyncGenerator[str]:
    """Spaces, and then the answer."""
    path, platform = request.scope["path"], request.app.state.services
    try:
        while not job.done():
            yield " "
            if platform.event_stream.stopped:
                yield _text(platform_problem(path, Stopping()))
                return
            await asyncio.wait({job}, timeout=BEAT_SECONDS)
        try:
            yield job.result().model_dump_json()
        except PlatformError as error:
            yield _text(platform_problem(path, error))
        except Exception as error:  # noqa: BLE001 - it is logged, and the answer has begun already
            yield _text(unexpected_error(path, error))
    finally:
        gone.set()


def _text(response: Response) -> str:
    return bytes(response.body).decode()


def _look_at(job: asyncio.Task[Any]) -> None:
    """Take note of an error that nobody waits for, else asyncio logs it."""
    if not job.cancelled():
        job.exception()
