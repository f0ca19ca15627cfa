"""Compares the messages of the engine with the tasks of the history, and settles what differs.

| a message of | finding | settled by |
|---|---|---|
| a task that the history does not know | `UNKNOWN` | its row is made from the message |
| a finished task, queued before the task finished | `DONE`: it would run again | the message is deleted |
| a finished task, queued after the task finished | `RETRIED`: somebody has sent it again | the row becomes unfinished |

A message of a finished task is normal while its ack is on its way: its attempt has finished (`MessageInfo.finished`),
or it is marked as cancelled. Such messages are no findings, and neither are those that only a newer version can read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from laneway.engine import Engine, Event, EventKind, MessageInfo, MessageState
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.history.adoption import is_storable_id
from laneway.platform.history.journal_projection import moment
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.operations.lost_tasks import dead_letter_event
from laneway.schemas.task import FINISHED

log = logger(__name__)

PAGE = 500
SUSPECTS = 20
"""Messages that are read with their bodies at once: these may be large."""
STATES = (MessageState.READY, MessageState.SCHEDULED, MessageState.HELD, MessageState.LEASED, MessageState.DEAD)


class Difference(Enum):
    """How a message differs from the history."""

    UNKNOWN = "unknown to the history"
    DONE = "finished, and would run again"
    RETRIED = "finished, and was sent again since"


@dataclass(frozen=True, slots=True)
class Finding:
    """A message that the history contradicts."""

    task_id: str
    queue: str
    difference: Difference
    settled: bool


class MessageComparison:
    """Compares the messages of a queue, page by page. Without the engine there is nothing to compare."""

    def __init__(self, database: Database, broker: Broker, recorder: JournalRecorder) -> None:
        self._database, self._broker, self._recorder = database, broker, recorder

    def compare(self, queue: str, *, settle: bool, between: Callable[[], None] = lambda: None) -> Iterator[Finding]:
        """Yield the findings of a queue, and settle each if asked to. Raises BrokerUnavailable, DatabaseUnavailable.

        `between`: called between two pages.
        """
        engine = self._broker.engine
        if engine is None:
            return
        for state in STATES:
            offset = 0
            while True:
                between()
                with self._broker.guarded():
                    page = engine.peek(queue, state, offset=offset, limit=PAGE, bodies=False)
                offset += len(page)
                for message, difference in self._differences(engine, queue, page, bodies=settle):
                    settled = settle and self._settle(queue, message, difference)
                    if settled and difference is Difference.DONE and state is not MessageState.LEASED:
                        offset -= 1  # the messages behind it have moved up
                    yield Finding(message.stored.message.task_id, queue, difference, settled)
                if len(page) < PAGE:
                    break

    def _differences(
        self, engine: Engine, queue: str, page: Sequence[MessageInfo], *, bodies: bool
    ) -> Iterator[tuple[MessageInfo, Difference]]:
        """Look at the suspects a second time, after the history was brought up to date."""
        ids = list(dict.fromkeys(found.stored.message.task_id for found in page if not found.stored.newer))
        runs = self._runs(ids)
        suspects = [id for id in ids if id not in runs or runs[id].state in FINISHED]
        if page and page[0].state is MessageState.DEAD:
            suspects = [id for id in suspects if id not in runs]
        for start in range(0, len(suspects), SUSPECTS):
            yield from self._second_look(engine, queue, suspects[start : start + SUSPECTS], bodies=bodies)

    def _second_look(
        self, engine: Engine, queue: str, suspects: Sequence[str], *, bodies: bool
    ) -> Iterator[tuple[MessageInfo, Difference]]:
        with self._broker.guarded():
            messages = engine.find_many(queue, suspects, bodies=bodies)
        self._recorder.catch_up([queue])
        runs = self._runs(suspects)
        for id, message in zip(suspects, messages, strict=True):
            difference = _difference(runs.get(id), message) if message else None
            if message is not None and difference is not None:
                yield message, difference

    def _runs(self, ids: Sequence[str]) -> dict[str, TaskRun]:
        storable = [id for id in ids if is_storable_id(id)]  # the database refuses to compare the others
        if not storable:
            return {}
        with self._database.reading() as session:
            return {run.id: run for run in task_runs.by_ids(session, storable)}

    def _settle(self, queue: str, message: MessageInfo, difference: Difference) -> bool:
        id = message.stored.message.task_id
        if difference is Difference.DONE:
            settled = self._broker.remove_message(queue, id)
        elif not is_storable_id(id):
            return False
        else:
            kind = EventKind.PUT if difference is Difference.UNKNOWN else EventKind.REQUEUE
            with self._database.transaction() as session:
                self._recorder.record_missing(session, queue, _events(message, kind))
            settled = True
        log.warning("message settled", task_id=id, queue=queue, it_was=difference.value)
        return settled


def _difference(run: TaskRun | None, message: MessageInfo) -> Difference | None:
    if message.stored.newer:
        return None
    if run is None:
        return Difference.UNKNOWN
    if run.state not in FINISHED or message.state is MessageState.DEAD or message.finished or message.cancelled:
        return None
    queued_later = run.finished_at is not None and moment(message.stored.enqueued_at) >= run.finished_at
    return Difference.RETRIED if queued_later else Difference.DONE


def _events(message: MessageInfo, kind: EventKind) -> list[Event]:
    """The events that led to this message, as far as the message shows them."""
    stored = message.stored
    if message.state is MessageState.SCHEDULED:
        stored = replace(stored, message=replace(stored.message, eta_ms=message.at))
    begin = Event(f"{stored.enqueued_at}-0", kind, stored.message.task_id, stored.id, stored=stored)
    if message.state is MessageState.DEAD:
        return [begin, dead_letter_event(message)]
    if message.state is MessageState.LEASED and message.attempts and not message.finished:
        return [begin, replace(begin, kind=EventKind.START, attempt=message.attempts, worker=message.owner or "?")]
    return [begin]
