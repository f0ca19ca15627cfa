"""Keeps open pages up to date: renders what they show again, and sends it to all who look at it when it has changed.

People who look at the same page share one rendering, so that a hundred open pages cost about as much as one. The time
that all renderings take is limited to `SHARE` of a processor core: with more pages, or slower ones, each is renewed
less often.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable
from dataclasses import dataclass, field
from time import thread_time
from typing import Final

from laneway.api.threads import read_in_thread
from laneway.platform.errors import PlatformError
from laneway.platform.logging import logger

log = logger(__name__)

EVERY: Final = 2.0
"""Seconds between two renderings of a page."""
SHARE: Final = 0.04
"""The share of a core that renderings may take."""
SLOWEST: Final = 60.0
"""Most seconds between two renderings, however long one takes."""
KEEP_ALIVE: Final = 8.0
"""Seconds after which something is sent on a quiet stream, so that both sides notice a connection that broke."""
STILL_HERE: Final = "event: still-here\ndata:\n\n"
"""What is sent then. The page changes nothing, and connects anew if it does not come."""


@dataclass(slots=True)
class _View:
    """A page that somebody looks at."""

    render: Callable[[], str]
    watchers: int = 0
    message: str = ""
    version: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class LivePages:
    """The pages that are open in one process. It belongs to the event loop."""

    def __init__(self, is_stopping: Callable[[], bool], *, every: float = EVERY, share: float = SHARE) -> None:
        self._is_stopping, self._every, self._share = is_stopping, every, share
        self._views: dict[Hashable, _View] = {}
        self._loop: asyncio.Task[None] | None = None

    async def watch(self, key: Hashable, render: Callable[[], str]) -> AsyncGenerator[str]:
        """Yield server-sent events with what `render` returns, each time that it has changed.

        `key`: of all who get the same; `render` is called in a thread.
        """
        view = self._views.setdefault(key, _View(render))
        view.watchers += 1
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        try:
            async for message in self._messages(view):
                yield message
        finally:
            view.watchers -= 1
            if not view.watchers and self._views.get(key) is view:
                del self._views[key]

    async def _messages(self, view: _View) -> AsyncGenerator[str]:
        seen = 0
        yield ": connected\n\n"
        while not self._is_stopping():
            if view.version > seen:
                seen = view.version
                yield view.message
                continue
            try:
                await asyncio.wait_for(view.changed.wait(), KEEP_ALIVE)
            except TimeoutError:
                yield STILL_HERE

    async def _run(self) -> None:
        """Render the pages one after the other for as long as somebody looks at one."""
        while self._views and not self._is_stopping():
            spent, began = 0.0, asyncio.get_running_loop().time()
            for view in list(self._views.values()):
                spent += await self._renew(view)
            took = asyncio.get_running_loop().time() - began
            await asyncio.sleep(min(SLOWEST, max(self._every, spent / self._share) - min(took, self._every)))
        for view in self._views.values():
            view.changed.set()

    async def _renew(self, view: _View) -> float:
        """Render a page; return the seconds of processor time that it took."""
        try:
            html, seconds = await read_in_thread(_timed, view.render)
        except PlatformError as error:
            log.debug("an open page is not renewed now", error=str(error))
            return 0.0
        except Exception:
            log.exception("an open page cannot be renewed")
            return 0.0
        message = as_event(html)
        if message != view.message:
            view.message, view.version = message, view.version + 1
            view.changed.set()
            view.changed = asyncio.Event()
        return seconds


def _timed(render: Callable[[], str]) -> tuple[str, float]:
    began = thread_time()
    return render(), thread_time() - began


def as_event(html: str) -> str:
    """A text as one server-sent event."""
    return "".join(f"data: {line}\n" for line in html.splitlines() if line.strip()) + "\n"
