"""The events of many tasks, read by this process itself."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import TYPE_CHECKING, Final

from laneway.platform.access.caller import current_caller
from laneway.platform.db.queries.event_feed import EventFilter
from laneway.platform.flow.queue_limits import check_declared
from laneway.platform.history.event_feed import DELETED_BEFORE, gone

if TYPE_CHECKING:
    from laneway.cli.source import FeedPart
    from laneway.platform.platform import Platform
    from laneway.schemas.feed import FeedEvent

LOOK_SECONDS: Final = 5.0
"""A follower reads at least this often, even without a wake-up."""


def local_feed(platform: Platform, part: FeedPart) -> Iterator[FeedEvent]:
    """The selected events. Raises NoSuchQueue now, not at the first event."""
    if part.queue is not None:
        check_declared(part.queue)
    which = EventFilter(
        caller=current_caller(),
        queue=part.queue,
        name=part.name,
        tag=part.tag,
        workflow=part.workflow,
        batch=part.batch,
        kinds=part.kinds,
    )
    return _events(platform, which, part)


def _events(platform: Platform, which: EventFilter, part: FeedPart) -> Iterator[FeedEvent]:
    feed, news, told = platform.event_feed, Event(), 0
    with feed.subscribe(news.set):
        after, missed = feed.start(which, part.after, last=part.last)
        if missed is not None:
            yield missed
        while True:
            news.clear()
            page = feed.read(which, after=after)
            if page.deleted > told:
                told = page.deleted
                yield gone(told, DELETED_BEFORE)
            yield from (item.view for item in page.items)
            after = page.after
            if page.is_last and not part.follow:
                return
            if page.is_last:
                news.wait(LOOK_SECONDS)
