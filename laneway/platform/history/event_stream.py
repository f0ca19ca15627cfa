"""The story of a task: its attempts and events, and who follows them live.

Many may follow many tasks: one thread in the process looks for what is new, once for all of them, and hands it out.
An event's id is its place in the story, so that who was cut off goes on behind the last one that it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from threading import Event as Signal
from threading import Lock, Thread
from time import monotonic

from laneway.platform.db.models import TaskAttempt, TaskEvent
from laneway.platform.db.queries import task_events as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.schemas.task import FINISHED
from laneway.platform.task_manager import TaskManager

log = logger(__name__)

Ring = Callable[[], object]

LOOK_EVERY = 0.25
"""Seconds between two looks for what is new, while anybody follows."""
BATCH = 500


class EventStream:
    """Attempts and events of tasks."""

    def __init__(self, database: Database, recorder: JournalRecorder, tasks: TaskManager) -> None:
        self._database, self._recorder, self._tasks = database, recorder, tasks
        self._followers: dict[str, list[Ring]] = {}
        self._lock, self._wanted = Lock(), Signal()
        self._thread: Thread | None = None

    def attempts(self, id: str) -> Sequence[TaskAttempt]:
        """All attempts of a task. Raises UnknownTask."""
        self._tasks.current(id)
        with self._database.reading() as session:
            return repository.attempts(session, id)

    def events(self, id: str, *, after: int = 0, limit: int = BATCH) -> Sequence[TaskEvent]:
        """The story of a task behind that event. Raises UnknownTask."""
        self._tasks.current(id)
        return self._events(id, after=after, limit=limit)

    def news(self, id: str, *, after: int) -> tuple[Sequence[TaskEvent], bool]:
        """What came behind that event, and whether that is all there will be. Raises UnknownTask."""
        over = self._tasks.current(id).state in FINISHED  # asked first: what ends it is then among the events
        page = self._events(id, after=after)
        return page, over and len(page) < BATCH

    @contextmanager
    def listening(self, id: str, ring: Ring) -> Generator[None]:
        """Have `ring` called from another thread whenever there is news of a task, while the block lasts."""
        with self._lock:
            self._followers.setdefault(id, []).append(ring)
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._look, name="laneway-stories", daemon=True)
                self._thread.start()
            self._wanted.set()
        try:
            yield
        finally:
            with self._lock:
                self._followers[id].remove(ring)
                if not self._followers[id]:
                    del self._followers[id]
                if not self._followers:
                    self._wanted.clear()

    def _events(self, id: str, *, after: int, limit: int = BATCH) -> Sequence[TaskEvent]:
        with self._database.reading() as session:
            return repository.events(session, id, after=after, limit=limit)

    def _look(self) -> None:
        last = 0
        while True:
            self._wanted.wait()
            began = monotonic()
            try:
                last = self._ring(last)
            except PlatformError as error:
                log.warning("stories stand still", error=str(error))
            Signal().wait(max(0.0, LOOK_EVERY - (monotonic() - began)))

    def _ring(self, last: int) -> int:
        """Wake those whose tasks have news behind `last`; gives back the newest event."""
        self._recorder.catch_up()
        with self._lock:
            ids = list(self._followers)
        with self._database.reading() as session:
            newest = repository.newest_event(session)
            if newest == last:
                return last
            # some way back: transactions do not become visible in the order of their events' ids
            ids = repository.tasks_with_news(session, ids, after=max(0, last - BATCH))
        with self._lock:
            for ring in [ring for id in ids for ring in self._followers.get(id, ())]:
                ring()
        return newest
