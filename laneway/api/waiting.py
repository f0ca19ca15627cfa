"""Requests that stay open for long: event streams, and those that wait for the end of a task. They are limited."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, aclosing, contextmanager
from functools import partial
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from laneway.platform.access.caller import current_caller
from laneway.platform.errors import RetryableError
from laneway.platform.settings import ConnectionSettings


class TooManyWaiting(RetryableError):
    """As many requests stay open as are allowed."""

    status, title = 429, "Too many open requests"

    template = (
        "{number} requests of {whom} follow or wait for tasks, which is the limit. Close one, or ask without waiting."
    )
    number: int
    whom: str

    @property
    def retry_after(self) -> float:
        return 5.0


class WaitingRequests:
    """Counts the requests that stay open, in one process. It belongs to the event loop."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._open: Counter[str] = Counter()

    @property
    def number(self) -> int:
        """How many are open now."""
        return self._open.total()

    @contextmanager
    def place(self, client: str) -> Generator[None]:
        """Count a request of a client while the block runs. Raises TooManyWaiting."""
        if self._open[client] >= self._settings.max_waiting_per_client:
            raise TooManyWaiting(self._open[client], "this client")
        if self._open.total() >= self._settings.max_waiting:
            raise TooManyWaiting(self._open.total(), "all clients")
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


Place: TypeAlias = Callable[[], AbstractContextManager[None]]


async def _place(request: Request) -> Place:
    """What holds a place for this request while it waits."""
    waiting: WaitingRequests = request.app.state.waiting
    return partial(waiting.place, _client(request))


PlaceDep = Annotated[Place, Depends(_place)]


async def hold_place(place: PlaceDep) -> AsyncGenerator[None]:
    """Hold a place until the response has ended. Raises TooManyWaiting before it begins."""
    with place():
        yield


def hold(request: Request, stream: AsyncGenerator[str]) -> AsyncGenerator[str]:
    """A stream that holds a place until it ends. Raises TooManyWaiting now, if there is no place."""
    place: Place = partial(request.app.state.waiting.place, _client(request))
    with place():
        return _holding(place, stream)


async def _holding(place: Place, stream: AsyncGenerator[str]) -> AsyncGenerator[str]:
    async with aclosing(stream):
        with place():
            async for part in stream:
                yield part


def _client(request: Request) -> str:
    """Who asks: the token or the person, else the IP address."""
    caller = current_caller()
    if caller.kind in ("token", "person"):
        return f"{caller.kind}:{caller.name}"
    return request.client.host if request.client else ""
