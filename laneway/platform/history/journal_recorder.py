"""Records the engine's journals in the database, so that each event takes effect exactly once.

The transaction that records events also stores, under a lock, the offset up to which the journal is recorded. The
journal is trimmed afterwards. So any process may record at any time, and a crash between the two steps records nothing
twice. While the database cannot be reached, the journals keep the events. When a journal has reached its limit, its
queue accepts no new task.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import monotonic

from sqlalchemy.orm import Session

from laneway.engine import Engine, Event, JournalPage, Stored
from laneway.engine.event_counts import EventCounts
from laneway.engine.journal import START, cursor_order
from laneway.platform.broker import Broker
from laneway.platform.db.models import JournalCursor, TaskRun
from laneway.platform.db.queries import task_events as repository
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import DatabaseBusy, NewerQueue, PlatformError
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.history.event_counter import EventCounter
from laneway.platform.history.journal_projection import FindMessage, record
from laneway.platform.history.replaced_copies import ReplacedCopy, note_older_copy
from laneway.platform.logging import logger
from laneway.platform.settings import TaskSettings

log = logger(__name__)

READ_SECONDS = 1.0
"""The longest time for which a reader records events before it reads."""
READER_WAITS = 0.25
"""Seconds for which a reader waits for writers of the database, before it reads without recording."""
PAUSE = 3.0
"""Seconds after such a wait in which readers do not record, so that not each of them waits in vain."""
BATCH = 500
"""Events that are recorded in one transaction."""


class JournalRecorder:
    """Records the journals of queues. Without the delivery engine there are no journals, and nothing is done."""

    def __init__(self, database: Database, broker: Broker, settings: TaskSettings) -> None:
        self._database, self._broker, self._settings = database, broker, settings
        self._paused_until = 0.0
        self.problem: PlatformError | None = None
        """Why readers get rows that may be behind: the broker or the database could not be used. None: they are not."""

    def catch_up(self, queues: Sequence[str] | None = None, *, seconds: float = math.inf) -> int:
        """Record the events that exist now, of all queues by default; returns the number of recorded entries.

        The queues take turns, a batch each, so that a long journal does not delay the others. Events that come
        meanwhile are left to the next call, so that a busy queue does not hold the caller. No further batch is begun
        after `seconds`. Raises BrokerUnavailable, DatabaseUnavailable.
        """
        engine, end = self._broker.engine, monotonic() + seconds
        if engine is None:
            return 0
        recorded, turns = 0, deque(self.unread(queues).items())
        while turns and monotonic() < end:
            (queue, left), batch = turns.popleft(), 0
            with suppress(NewerQueue):  # a process of the newer version records its events; `Broker.prepare` names it
                batch = self._record_batch(engine, queue)
            recorded += batch
            if 0 < batch < left:
                turns.append((queue, left - batch))
        return recorded

    def catch_up_quietly(self, queues: Sequence[str] | None = None) -> None:
        """Record events for a caller that only reads, of all queues by default, for at most `READ_SECONDS`.

        While another program holds the database, the caller reads what is recorded already. Logs an error, and keeps
        it in `problem`; or logs how many events are left when the time is over. The workers record them later.
        """
        if monotonic() < self._paused_until:
            return
        try:
            end = monotonic() + READ_SECONDS
            with limit_waits(READER_WAITS):
                self.catch_up(queues, seconds=READ_SECONDS)
            self.problem = None
            if monotonic() >= end:
                log.warning("the history is behind", unread=self.unread(queues))
        except DatabaseBusy as error:
            self._paused_until = monotonic() + PAUSE
            self.problem = self.problem or error
            log.warning("the history is behind", error=str(error))
        except PlatformError as error:
            self.problem = self.problem or error  # the first one has the reason; later calls fail without a try
            log.warning("the history is behind", error=str(error))

    def leave_to_others(self) -> None:
        """Record nothing for readers of this process any more: it has not imported the tasks.

        What follows from an event, such as an `on_failure` task, could not be done here.
        """
        self._paused_until = math.inf

    def unread(self, queues: Sequence[str] | None = None) -> dict[str, int]:
        """Queue → number of events that are not recorded yet, where there are any."""
        engine = self._broker.engine
        if engine is None:
            return {}
        names = list(queues or self._broker.queues)
        with self._broker.guarded():
            return {name: count for name, count in zip(names, engine.unread(names), strict=True) if count}

    def find_replaced_copies(self) -> list[ReplacedCopy]:
        """The queues whose tasks and messages have not been compared since an older copy was restored.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        engine = self._broker.engine
        if engine is None:
            return []
        queues = self._broker.queues
        with self._broker.guarded():  # before the database: until it is trimmed, the broker is the one behind
            trimmed = dict(zip(queues, engine.recorded(queues), strict=True))
        with self._database.reading() as session:
            positions = {cursor.queue: cursor.position for cursor in repository.cursors(session)}
        for queue in queues:
            if positions.get(queue, START) != trimmed[queue]:
                with suppress(NewerQueue), self._database.transaction() as session:
                    cursor = repository.lock_cursor(session, queue)
                    note_older_copy(session, cursor, self._read(engine, cursor))
        with self._database.reading() as session:
            found = repository.cursors(session)
        return [ReplacedCopy.of(cursor) for cursor in found if cursor.replaced and cursor.queue in queues]

    def forget_replacement(self, copy: ReplacedCopy) -> None:
        """Store that the queue was compared, unless another copy was restored meanwhile."""
        with self._database.transaction() as session:
            cursor = repository.lock_cursor(session, copy.queue)
            if ReplacedCopy.of(cursor) == copy:
                cursor.replaced, cursor.gap_until = False, None

    def record_missing(self, session: Session, queue: str, events: Sequence[Event]) -> None:
        """Record events that the journal does not have, but that the queue or a result proves."""
        submit_on_failure(session, self._record(session, queue, events), self._settings)

    def _record(
        self,
        session: Session,
        queue: str,
        events: Sequence[Event],
        find: FindMessage | None = None,
        counter: EventCounter | None = None,
    ) -> list[TaskRun]:
        signer, sealer = self._broker.messages.signer, self._settings.sealer
        return record(session, queue, events, find=find, signer=signer, sealer=sealer, counter=counter)

    def _record_batch(self, engine: Engine, queue: str) -> int:
        with self._database.transaction() as session:
            cursor = repository.lock_cursor(session, queue)
            page = self._read(engine, cursor)
            if note_older_copy(session, cursor, page):
                page = self._read(engine, cursor)
            if page.events:
                counter, until = EventCounter(), page.events[-1].cursor
                find = partial(self._stored, engine, queue)
                submit_on_failure(session, self._record(session, queue, page.events, find, counter), self._settings)
                self._count(engine, queue, counter, after=cursor.position, until=until)
                cursor.position = until
            position = cursor.position
        if position != START:
            with self._broker.guarded():
                engine.trim_journal(queue, until=position)
        return len({event.cursor for event in page.events})  # entries of the journal

    def _count(self, engine: Engine, queue: str, counter: EventCounter, *, after: str, until: str) -> None:
        """Add the counts of a batch to those of the queue, before the commit: so a crash cannot leave them out.

        If the commit fails, the events are recorded again, and those that were counted are left out then.
        """
        counts = EventCounts(engine)
        with self._broker.guarded():
            before = counts.add(queue, counter.counts(), after=after, until=until)
            if before != after and cursor_order(before) < cursor_order(until):
                counts.add(queue, counter.counts(after=before), after=before, until=until)

    def _read(self, engine: Engine, cursor: JournalCursor) -> JournalPage:
        with self._broker.guarded():
            return engine.read_journal(cursor.queue, after=cursor.position, limit=BATCH)

    def _stored(self, engine: Engine, queue: str, task_id: str) -> Stored | None:
        with self._broker.guarded():
            found = engine.find_many(queue, [task_id])[0]
        return found.stored if found else None
