"""Runs the plain functions of routes in threads, with one time limit for each request.

A function that reads and a function that writes have separate threads. So requests that wait for the database's write
lock never hold the threads that readers need.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, move_on_after
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from fastapi.routing import APIRoute

from laneway.platform.access.caller import current_caller
from laneway.platform.db.wait_limit import limit_waits, seconds_left
from laneway.platform.errors import Overloaded

T = TypeVar("T")

WAIT_SECONDS = 3.5
"""Most seconds that a request waits for a thread and for the database together. Then it is answered 503, within 5 s."""
COMMAND_SECONDS: Final = 30.0
"""The same for a command of this machine's user: it waits as long as one that uses the database itself."""
READERS: Final = 16
WRITERS: Final = 24
"""Threads of each kind. Together they need fewer connections than the database's pool has."""
PROBES: Final = 4
"""Threads for probes, which use no connection themselves (`SingleCall`)."""
_readers: RunVar[CapacityLimiter] = RunVar("laneway_readers")
_writers: RunVar[CapacityLimiter] = RunVar("laneway_writers")
_probes: RunVar[CapacityLimiter] = RunVar("laneway_probes")


class ThreadedRoute(APIRoute):
    """A route whose plain function runs in a thread of its kind: GET and HEAD read, all other methods write."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not iscoroutinefunction(endpoint) and not isasyncgenfunction(endpoint):
            run = read_in_thread if set(options.get("methods") or ("GET",)) <= {"GET", "HEAD"} else write_in_thread
            endpoint = _as_coroutine(endpoint, run)
        super().__init__(path, endpoint, **options)


async def read_in_thread(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call a function that reads. Raises Overloaded when no thread is free in time, and what the function raises."""
    return await _run(partial(function, *arguments, **named), _limiter(_readers, READERS))


async def write_in_thread(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call a function that writes. Raises Overloaded when no thread is free in time, and what the function raises."""
    return await _run(partial(function, *arguments, **named), _limiter(_writers, WRITERS))


async def answer_probe(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call a function that a probe asks for. It is answered also while all other threads wait for the database."""
    return await _run(partial(function, *arguments, **named), _limiter(_probes, PROBES))


def seconds_to_wait() -> float:
    """How long the present request may wait for a thread and for the database together."""
    return COMMAND_SECONDS if current_caller().kind == "command" else WAIT_SECONDS


async def _run(call: Callable[[], T], limiter: CapacityLimiter) -> T:
    seconds = seconds_to_wait()
    with limit_waits(seconds):
        async with _turn(limiter, seconds):
            return await run_sync(call, limiter=CapacityLimiter(1))


@asynccontextmanager
async def _turn(limiter: CapacityLimiter, seconds: float) -> AsyncGenerator[None]:
    borrower, granted = object(), False
    with move_on_after(seconds_left(seconds)):
        await limiter.acquire_on_behalf_of(borrower)
        granted = True
    if not granted:
        raise Overloaded(seconds)
    try:
        yield
    finally:
        limiter.release_on_behalf_of(borrower)


def _limiter(variable: RunVar[CapacityLimiter], threads: int) -> CapacityLimiter:
    """Return the limiter of this event loop."""
    try:
        return variable.get()
    except LookupError:
        variable.set(limiter := CapacityLimiter(threads))
        return limiter


def _as_coroutine(
    function: Callable[..., T], run: Callable[..., Coroutine[Any, Any, T]]
) -> Callable[..., Coroutine[Any, Any, T]]:
    @wraps(function)
    async def call(*arguments: Any, **named: Any) -> T:
        return await run(function, *arguments, **named)

    return call
