"""Attempts and events of a task, and live notifications of new events.

Any number of subscribers may follow any number of tasks. One thread per process looks for new events, once for all of
them. An event's id grows within its task, so a subscriber whose connection broke resumes after the last id that it saw.
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
from laneway.platform.task_manager import TaskManager
from laneway.schemas.task import FINISHED

log = logger(__name__)

Notify = Callable[[], object]

POLL_SECONDS = 0.25
"""Seconds between two queries for new events, while there are subscribers."""
BATCH = 500
"""Most events in one page."""


class EventStream:
    """Reads the attempts and events of tasks, and notifies subscribers."""

    def __init__(self, database: Database, recorder: JournalRecorder, tasks: TaskManager) -> None:
        self._database, self._recorder, self._tasks = database, recorder, tasks
        self._subscribers: dict[str, list[Notify]] = {}
        self._lock, self._has_subscribers = Lock(), Signal()
        self._thread: Thread | None = None
        self.stopped = False
        """True once the process stops: subscribers are to end."""

    def stop(self) -> None:
        """Notify all subscribers, so that they see that the process stops. May be called again."""
        self.stopped = True
        with self._lock:
            for notify in [notify for subscribed in self._subscribers.values() for notify in subscribed]:
                notify()

    def attempts(self, id: str) -> Sequence[TaskAttempt]:
        """All attempts of a task. Raises UnknownTask."""
        self._tasks.current(id)
        with self._database.reading() as session:
            return repository.attempts(session, id)

    def events(self, id: str, *, after: int = 0, limit: int = BATCH) -> Sequence[TaskEvent]:
        """The events of a task after the event with this id. Raises UnknownTask."""
        self._tasks.current(id)
        return self._events(id, after=after, limit=limit)

    def new_events(self, id: str, *, after: int) -> tuple[Sequence[TaskEvent], bool]:
        """Return the events after this one, and whether they are the last ones. Raises UnknownTask."""
        is_finished = self._tasks.current(id).state in FINISHED  # read first, so that the events include the end
        page = self._events(id, after=after)
        return page, is_finished and len(page) < BATCH

    @contextmanager
    def subscribe(self, id: str, notify: Notify) -> Generator[None]:
        """While the block runs, call `notify` from another thread whenever the task has new events."""
        with self._lock:
            self._subscribers.setdefault(id, []).append(notify)
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="laneway-event-stream", daemon=True)
                self._thread.start()
            self._has_subscribers.set()
        try:
            yield
        finally:
            self._unsubscribe(id, notify)

    def _unsubscribe(self, id: str, notify: Notify) -> None:
        with self._lock:
            self._subscribers[id].remove(notify)
            if not self._subscribers[id]:
                del self._subscribers[id]
            if not self._subscribers:
                self._has_subscribers.clear()

    def _events(self, id: str, *, after: int, limit: int = BATCH) -> Sequence[TaskEvent]:
        with self._database.reading() as session:
            return repository.events(session, id, after=after, limit=limit)

    def _run(self) -> None:
        newest = 0
        while True:
            self._has_subscribers.wait()
            started = monotonic()
            try:
                newest = self._notify_subscribers(newest)
            except PlatformError as error:
                log.warning("event streams cannot read new events now", error=str(error))
            Signal().wait(max(0.0, POLL_SECONDS - (monotonic() - started)))

    def _notify_subscribers(self, after: int) -> int:
        """Notify the subscribers of tasks that have events after this one; returns the id of the newest event.

        The query begins `BATCH` events earlier: transactions do not become visible in the order of their events' ids.
        """
        self._recorder.catch_up_quietly()
        with self._lock:
            ids = list(self._subscribers)
        with self._database.reading() as session:
            newest = repository.newest_event(session)
            if newest == after:
                return after
            ids = repository.tasks_with_events(session, ids, after=max(0, after - BATCH))
        with self._lock:
            for notify in [notify for id in ids for notify in self._subscribers.get(id, ())]:
                notify()
        return newest
