"""Records the engine's journals in the database, so that each event takes effect exactly once.

The transaction that records events also stores, under a lock, the offset up to which the journal is recorded. The
journal is trimmed afterwards. So any process may record at any time, and a crash between the two steps records nothing
twice. While the database cannot be reached, the journals keep the events. When a journal has reached its limit, its
queue accepts no new task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from laneway.engine import Engine, Stored
from laneway.platform.broker import Broker
from laneway.platform.db.queries import task_events as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import NewerQueue, PlatformError
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.history.journal_projection import record
from laneway.platform.logging import logger
from laneway.platform.settings import TaskSettings

log = logger(__name__)

READ_SECONDS = 1.0
"""The longest time for which a reader records events before it reads."""
BATCH = 500
"""Events that are recorded in one transaction."""


class JournalRecorder:
    """Records the journals of queues. Without the delivery engine there are no journals, and nothing is done."""

    def __init__(self, database: Database, broker: Broker, settings: TaskSettings) -> None:
        self._database, self._broker, self._settings = database, broker, settings

    def catch_up(self, queues: Sequence[str] | None = None, *, seconds: float = math.inf) -> int:
        """Record the events that exist now, of all queues by default; returns the number of recorded entries.

        Events that come meanwhile are left to the next call, so that a busy queue does not hold the caller. No
        further batch is begun after `seconds`. Raises BrokerUnavailable, DatabaseUnavailable.
        """
        engine, end = self._broker.engine, monotonic() + seconds
        if engine is None:
            return 0
        recorded = 0
        for queue, unread in self.unread(queues).items():
            left = unread
            with suppress(NewerQueue):  # a process of the newer version records its events; `Broker.prepare` names it
                while left > 0 and monotonic() < end and (batch := self._record_batch(engine, queue)):
                    recorded, left = recorded + batch, left - batch
        return recorded

    def catch_up_quietly(self, queues: Sequence[str] | None = None) -> None:
        """Record events for a caller that only reads, of all queues by default, for at most `READ_SECONDS`.

        Logs an error, or how many events are left when the time is over. The workers record them later.
        """
        try:
            end = monotonic() + READ_SECONDS
            self.catch_up(queues, seconds=READ_SECONDS)
            if monotonic() >= end:
                log.warning("the history is behind", unread=self.unread(queues))
        except PlatformError as error:
            log.warning("the history is behind", error=str(error))

    def unread(self, queues: Sequence[str] | None = None) -> dict[str, int]:
        """Queue → number of events that are not recorded yet, where there are any."""
        engine = self._broker.engine
        if engine is None:
            return {}
        names = list(queues or self._broker.queues)
        with self._broker.guarded():
            return {name: count for name, count in zip(names, engine.unread(names), strict=True) if count}

    def _record_batch(self, engine: Engine, queue: str) -> int:
        with self._database.transaction() as session:
            offset = repository.lock_cursor(session, queue)
            with self._broker.guarded():
                events = engine.events(queue, after=offset, limit=BATCH)  # and few at once if they are large
            if events:
                offset = events[-1].cursor
                ended = record(session, queue, events, self._message_of)
                submit_on_failure(session, ended, self._settings)
                repository.move_cursor(session, queue, offset)
        if offset != repository.START:
            with self._broker.guarded():
                engine.trim_journal(queue, until=offset)
        return len({event.cursor for event in events})  # entries of the journal

    def _message_of(self, queue: str, id: str) -> Stored | None:
        with self._broker.guarded():
            found = self._broker.require_engine("the journal").find_many(queue, [id])[0]
        return found.stored if found else None
