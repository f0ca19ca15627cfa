"""The stream of a feed as server-sent events.

A reader takes part after part, and each part is made when the last one was taken: a slow reader occupies the memory of
one part. A reader that takes nothing for 30 s is disconnected (`limited_protocol.py`), and continues after its last
event when it comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final

from laneway.api.threads import read_in_thread
from laneway.platform import clock
from laneway.platform.db.queries.event_feed import EventFilter
from laneway.platform.errors import PlatformError
from laneway.platform.history.event_feed import DELETED_BEFORE, EventFeed, FeedPage, gone
from laneway.platform.logging import logger
from laneway.schemas.feed import POSITION, FeedEvent

log = logger(__name__)

POSITION_SECONDS: Final = 10.0
"""Seconds after which a quiet feed says where it is. So both sides notice a broken connection, and a reader whose
selection has few events does not begin far back when it continues."""
LONGEST_SECONDS: Final = 900.0
"""Seconds after which a feed ends, and the reader connects again: so its right to read is checked again."""
RECONNECT_MS: Final = 1000
"""When a reader is to connect again."""


async def stream_feed(
    feed: EventFeed, which: EventFilter, *, position: int, missed: FeedEvent | None, follow: bool
) -> AsyncGenerator[str]:
    """Yield the events of a feed after this position; those that come, too, if `follow` says so.

    `missed`: what the reader is told first. When the database is away, the feed ends, and the reader connects again.
    """
    yield f"retry: {RECONNECT_MS}\n" + _text(missed or _position(position))
    try:
        async with aclosing(_parts(feed, which, position=position, follow=follow)) as parts:
            async for part in parts:
                yield part
    except PlatformError as error:
        log.warning("a feed ends", error=str(error))


async def _parts(feed: EventFeed, which: EventFilter, *, position: int, follow: bool) -> AsyncGenerator[str]:
    loop, wakeup = asyncio.get_running_loop(), asyncio.Event()
    ends_at, told = loop.time() + LONGEST_SECONDS, 0
    with feed.subscribe(partial(loop.call_soon_threadsafe, wakeup.set)):
        while not feed.stopped and loop.time() < ends_at:
            wakeup.clear()
            page = feed.in_memory(which, after=position)
            if page is None:
                page = await read_in_thread(feed.in_database, which, after=position)
            position = page.after
            if text := _page_text(page, told):
                yield text
            told = max(told, page.deleted)
            if page.is_last and not follow:
                break
            if page.is_last and not await _is_woken(wakeup, POSITION_SECONDS):
                yield _text(_position(position))
        yield _text(_position(position))


def _page_text(page: FeedPage, told: int) -> str:
    parts = [_text(gone(page.deleted, DELETED_BEFORE), moves=False)] if page.deleted > told else []
    parts += [f"event: {item.event.kind}\ndata: {item.json}\nid: {item.event.seq}\n\n" for item in page.items]
    return "".join(parts)


def _text(event: FeedEvent, *, moves: bool = True) -> str:
    """What the feed says of itself. `moves`: the reader continues at its id."""
    id = f"id: {event.id}\n" if moves else ""
    return f"event: {event.kind}\ndata: {event.model_dump_json()}\n{id}\n"


def _position(id: int) -> FeedEvent:
    return FeedEvent(id=id, at=clock.now(), kind=POSITION, attempt=None, data={})


async def _is_woken(wakeup: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(wakeup.wait(), seconds)
    except TimeoutError:
        return False
    return True
