"""Feeds: the events of many tasks, in one order, from any event on.

Any number of readers may follow any selection of events. One thread of the process reads the new events, once for all
of them, and keeps the newest in memory. A reader that is behind these reads from the database until it has caught up.

The order is that of the events' ids. `laneway.platform.db.queries.event_feed` says why no event is skipped: an event
is sent once no event with a lower id can come any more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from threading import Event as Signal
from threading import Lock, Thread
from time import monotonic
from typing import Final

from laneway.platform import clock
from laneway.platform.db.models import TaskEvent
from laneway.platform.db.queries import event_feed as repository
from laneway.platform.db.queries.event_feed import EventFilter, TaskOfEvent
from laneway.platform.db.queries.event_marks import DELETED, mark
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.history.task_views import describe_event
from laneway.platform.logging import logger
from laneway.schemas.feed import GONE, FeedEvent

log = logger(__name__)

POLL_SECONDS: Final = 0.5
"""Seconds between two looks for new events, while there are readers."""
BATCH: Final = 500
"""Most events that the thread reads at once."""
PAGE: Final = 100
"""Most events that a reader gets from the database at once."""
PAGE_CHARACTERS: Final = 256_000
"""Characters of JSON after which a page ends that a reader gets from memory."""
KEPT_EVENTS: Final = 5000
KEPT_CHARACTERS: Final = 16_000_000
"""Most events, and characters of their JSON, that a process keeps in memory."""
DELETED_BEFORE: Final = "They were deleted with their tasks, by retention or by hand, before this reader got them."
OTHER_COPY: Final = "The reader's position is of another copy of the database. It continues at the newest event."


@dataclass(frozen=True, slots=True)
class FeedItem:
    """An event in a feed, with its task, and as JSON."""

    event: TaskEvent
    task: TaskOfEvent
    view: FeedEvent
    json: str


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A part of a feed."""

    items: Sequence[FeedItem]
    after: int
    """Where the reader continues."""
    is_last: bool
    """There are no further events now."""
    deleted: int = 0
    """The id up to which events that the reader has not seen may be deleted; 0: none are."""


@dataclass(slots=True)
class _Newest:
    """The newest events: all with an id above `floor`, up to `position`."""

    floor: int
    position: int
    items: deque[FeedItem] = field(default_factory=deque[FeedItem])
    characters: int = 0

    def add(self, items: Sequence[FeedItem], *, position: int) -> None:
        self.items.extend(items)
        self.characters += sum(len(item.json) for item in items)
        self.position = position
        while self.items and (len(self.items) > KEPT_EVENTS or self.characters > KEPT_CHARACTERS):
            oldest = self.items.popleft()
            self.floor, self.characters = oldest.event.seq, self.characters - len(oldest.json)


class EventFeed:
    """Reads the events of all tasks, and notifies the readers of feeds."""

    def __init__(self, database: Database, recorder: JournalRecorder) -> None:
        self._database, self._recorder = database, recorder
        self._readers: list[Callable[[], object]] = []
        self._lock, self._has_readers = Lock(), Signal()
        self._newest: _Newest | None = None
        self._thread: Thread | None = None
        self.stopped = False
        """True once the process stops: readers are to end."""

    def stop(self) -> None:
        """Notify all readers, so that they see that the process stops. May be called again."""
        self.stopped = True
        self._notify()

    @contextmanager
    def subscribe(self, notify: Callable[[], object]) -> Generator[None]:
        """While the block runs, call `notify` from another thread whenever there are new events."""
        with self._lock:
            self._readers.append(notify)
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="laneway-event-feed", daemon=True)
                self._thread.start()
            self._has_readers.set()
        try:
            yield
        finally:
            with self._lock:
                self._readers.remove(notify)
                if not self._readers:
                    self._has_readers.clear()
                    self._newest = None

    def start(self, which: EventFilter, after: int | None, *, last: int = 0) -> tuple[int, FeedEvent | None]:
        """Where a reader begins that has seen the events up to `after`; None: it wants those that come from now on.

        `last`: if `after` is None, it also wants so many of the newest ones. Also returns what the feed tells it, if
        there never was an event with this id. Events that have happened by now are recorded before.
        """
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            if after is None:
                now = repository.settled(session)
                return repository.before_newest(session, which, until=now, number=last) if last else now, None
            highest = repository.highest_id(session)
        return (after, None) if after <= highest else (highest, gone(highest, OTHER_COPY))

    def in_memory(self, which: EventFilter, *, after: int) -> FeedPage | None:
        """The selected events after this one; None: they are not all in memory (`in_database`)."""
        with self._lock:
            newest = self._newest
            if newest is None or after < newest.floor:
                return None
            first = bisect_right(newest.items, after, key=lambda item: item.event.seq)
            candidates, end = list(islice(newest.items, first, None)), max(after, newest.position)
        found: list[FeedItem] = []
        room = PAGE_CHARACTERS
        for item in candidates:
            if which.matches(item.event, item.task):
                found.append(item)
                room -= len(item.json)
                if room <= 0:
                    return FeedPage(found, item.event.seq, is_last=False)
        return FeedPage(found, end, is_last=True)

    def in_database(self, which: EventFilter, *, after: int, limit: int = PAGE) -> FeedPage:
        """The selected events after this one, of those that are recorded."""
        with self._database.reading() as session:
            until = repository.settled(session)
            found = items_of(repository.page(session, after=after, until=until, limit=limit, which=which))
            deleted = mark(session, DELETED)
        is_last = len(found) < limit
        end = max(after, until) if is_last else found[-1].event.seq
        return FeedPage(found, end, is_last=is_last, deleted=deleted if deleted > after else 0)

    def read(self, which: EventFilter, *, after: int) -> FeedPage:
        """The selected events after this one, from memory if they are there."""
        return self.in_memory(which, after=after) or self.in_database(which, after=after)

    def _run(self) -> None:
        while True:
            self._has_readers.wait()
            started = monotonic()
            try:
                self._recorder.catch_up_quietly()
                self._read_new()
            except PlatformError as error:
                log.warning("feeds cannot read new events now", error=str(error))
            except Exception:
                log.exception("feeds cannot read new events now")
            Signal().wait(max(0.0, POLL_SECONDS - (monotonic() - started)))

    def _read_new(self) -> None:
        """Add the new events to those in memory, and notify the readers after each page."""
        with self._lock:
            newest = self._newest
        with self._database.reading() as session:
            until = repository.settled(session)
            while newest is not None and newest.position < until:
                page = repository.page(session, after=newest.position, until=until, limit=BATCH)
                items = items_of(page)
                with self._lock:
                    newest.add(items, position=items[-1].event.seq if len(items) == BATCH else until)
                self._notify()
                session.expunge_all()
        if newest is None:
            with self._lock:
                self._newest = _Newest(until, until) if self._readers else None
            self._notify()  # readers that began before it read from the database up to here

    def _notify(self) -> None:
        with self._lock:
            readers = list(self._readers)
        for notify in readers:
            notify()


def gone(before: int, reason: str) -> FeedEvent:
    """What a feed says to a reader that has missed events."""
    return FeedEvent(id=before, at=clock.now(), kind=GONE, attempt=None, data={"before": before, "reason": reason})


def items_of(page: Sequence[tuple[TaskEvent, TaskOfEvent]]) -> list[FeedItem]:
    """The events as they are sent."""
    items: list[FeedItem] = []
    for event, task in page:
        view = FeedEvent(
            **dict(describe_event(event)),
            task_id=event.task_id,
            name=task.name,
            queue=task.queue,
            tags=task.tags,
            workflow=task.workflow,
            batch=task.batch,
        )
        items.append(FeedItem(event, task, view, view.model_dump_json()))
    return items
