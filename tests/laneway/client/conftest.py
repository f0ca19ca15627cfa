"""Both clients behind one face: every test of this folder runs with `Client` and with `AsyncClient`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from laneway.client import AsyncClient, Client
from tests.fixtures.http_peer import http_peer

__all__ = ["http_peer"]
MakeClient = Callable[..., Client]


class AsyncDriver:
    """Calls the methods of an `AsyncClient` in an event loop of another thread."""

    def __init__(self, portal: BlockingPortal, client: AsyncClient) -> None:
        self._portal, self._client = portal, client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if inspect.iscoroutinefunction(method):
            return lambda *args, **options: self._portal.call(lambda: method(*args, **options))
        if inspect.isasyncgenfunction(method):
            return lambda *args, **options: self._iterate(method(*args, **options))
        return method

    def _iterate(self, events: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._portal.call(events.__anext__)
            except StopAsyncIteration:
                return


@pytest.fixture(params=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Generator[MakeClient]:
    """Make clients; they are closed at the end."""
    with ExitStack() as stack:
        if request.param == "sync":
            yield lambda url, **options: stack.enter_context(Client(url, **options))
            return
        portal = stack.enter_context(start_blocking_portal())

        def make(url: str, **options: Any) -> Client:
            client = portal.call(lambda: AsyncClient(url, **options))
            stack.callback(portal.call, client.close)
            return cast("Client", AsyncDriver(portal, client))

        yield make
