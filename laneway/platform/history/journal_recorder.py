"""The recorder: brings what the engine's journals say into the database, each event once in effect.

The place up to which a journal is recorded is written in the same transaction as what was recorded, under a lock; the
journal lets go of it after that. So any process may record at any time, and a crash between the two repeats nothing.
While the database is away the journals hold what happened, up to their bound; then nothing new is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence

from laneway.engine import Engine
from laneway.platform.broker import Broker
from laneway.platform.db.queries import task_events as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.history.journal_projection import record
from laneway.platform.logging import logger
from laneway.platform.settings import TaskSettings

log = logger(__name__)

BATCH = 500


class JournalRecorder:
    """Records the journals of queues."""

    def __init__(self, database: Database, broker: Broker, settings: TaskSettings) -> None:
        self._database, self._broker, self._settings = database, broker, settings

    def catch_up(self, queues: Sequence[str] | None = None) -> int:
        """Record everything that has happened until now; gives back how many events it was. Without the engine: none.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        engine = self._broker.engine
        if engine is None:
            return 0
        recorded = 0
        for queue in self.unread(queues):
            while batch := self._record(engine, queue):
                recorded += batch
                if batch < BATCH:
                    break
        return recorded

    def catch_up_quietly(self) -> None:
        """The same for whoever reads: what cannot be recorded now is recorded later."""
        try:
            self.catch_up()
        except PlatformError as error:
            log.warning("the history is behind", error=str(error))

    def unread(self, queues: Sequence[str] | None = None) -> dict[str, int]:
        """Queue → events that wait to be recorded, where there are any."""
        engine = self._broker.engine
        if engine is None:
            return {}
        names = list(queues or self._broker.queues)
        with self._broker.guarded():
            return {name: count for name, count in zip(names, engine.unread(names), strict=True) if count}

    def _record(self, engine: Engine, queue: str) -> int:
        with self._database.transaction() as session:
            place = repository.lock_cursor(session, queue)
            with self._broker.guarded():
                events = engine.events(queue, after=place, limit=BATCH)
            if events:
                place = events[-1].cursor
                submit_on_failure(session, record(session, queue, events), self._settings)
                repository.move_cursor(session, queue, place)
        if place != repository.START:
            with self._broker.guarded():
                engine.trim_journal(queue, until=place)
        return len(events)
