"""The count of everything that was ever accepted: history, engine and results side by side.

    accepted = completed + failed + dead letters + cancelled + expired + waiting + running

holds in the history by its very form; what matters is that each task that is not over is somewhere it can go on from,
that the engine holds nothing that the history does not know, and that no task has come to an end that the history knows
nothing of. What fails one of these is unaccounted for. Results that are gone or wrong are told beside it
(`result_audit.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from laneway.engine import MessageInfo, MessageState, QueueStats
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import audit, search, task_runs
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.execution.celery_results import Results
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.operations.result_audit import ResultAudit, ResultCount
from laneway.platform.schemas.task import FINISHED, TaskState
from laneway.platform.task_manager import TaskManager

PAGE = 500
GRACE = timedelta(seconds=2)
"""What was sent a moment ago may be between the two places."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A task that is not over, and that the engine does not have or gave up, or that is over by its result."""

    task_id: str
    name: str
    queue: str
    state: TaskState
    why: str


@dataclass(slots=True)
class Count:
    """The result of an audit."""

    accepted: int = 0
    by_state: dict[TaskState, int] = field(default_factory=dict)
    engine: dict[str, QueueStats] = field(default_factory=dict)
    unread: int = 0
    """Events that wait to be recorded, after all that could be recorded was."""
    unaccounted: list[Missing] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Tasks in the engine that the history does not know."""
    repaired: int = 0
    results: ResultCount = field(default_factory=ResultCount)
    """What the result store says; none of it is unaccounted for."""

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing on either side, and everything is recorded."""
        return not (self.unaccounted or self.unknown or self.unread)


@dataclass(frozen=True, slots=True)
class Suspect:
    """What may be wrong with a task that is not over."""

    run: TaskRun
    lost: str | None
    """Why the engine will not deliver it."""
    result: str | None
    """What its result says, if that is that it is over."""

    @property
    def why(self) -> str:
        """In words."""
        said = f"its result says {self.result}" if self.result else None
        return "; ".join(reason for reason in (self.lost, said) if reason)


class Audit:
    """Counts, names what is missing, and puts it back."""

    def __init__(
        self, database: Database, broker: Broker, recorder: JournalRecorder, tasks: TaskManager, results: Results
    ) -> None:
        self._database, self._broker, self._recorder, self._tasks = database, broker, recorder, tasks
        self._results = ResultAudit(database, recorder, results)

    def count(self, *, repair: bool = False) -> Count:
        """Look at everything once. Raises BrokerUnavailable, DatabaseUnavailable, ResultStoreUnavailable."""
        self._recorder.catch_up()
        found = Count()
        for suspect in self._missing():
            run = suspect.run
            found.unaccounted.append(Missing(run.id, run.name, run.queue, TaskState(run.state), suspect.why))
            if repair and self._mend(suspect):
                found.repaired += 1
        found.unknown = list(self._unknown())
        found.results = self._results.count(repair=repair)
        with self._database.reading() as session:
            found.by_state = search.counts_by_state(session, Filter())
        found.accepted = sum(found.by_state.values())  # one look: a second one would count what came meanwhile
        found.engine = {stats.queue: stats for stats in self._broker.stats(self._broker.queues) or ()}
        found.unread = sum(self._recorder.unread().values())
        return found

    def _mend(self, suspect: Suspect) -> bool:
        """The result first: what is sent again could not replace a success."""
        if suspect.result:
            self._results.take_away(suspect.run.id)
        return self._tasks.send(suspect.run) if suspect.lost else True

    def _missing(self) -> Iterator[Suspect]:
        after = 0
        while True:
            with self._database.reading() as session:
                page = task_runs.unfinished_before(session, clock.now() - GRACE, after_seq=after, limit=PAGE)
            yield from self._missing_of(page)
            if len(page) < PAGE:
                return
            after = page[-1].seq

    def _missing_of(self, page: Sequence[TaskRun]) -> Iterator[Suspect]:
        lost, over = self._lost(page), self._results.said_to_be_over(page)
        suspects = [run for run in page if run.id in lost or run.id in over]
        if suspects:
            self._recorder.catch_up()  # what ended while we looked is over by now
        for run in suspects:
            now = self._tasks.current(run.id)
            if now.state not in FINISHED and now.published_at == run.published_at:
                yield Suspect(now, lost.get(run.id), over.get(run.id))

    def _lost(self, page: Sequence[TaskRun]) -> dict[str, str]:
        """Task → why the engine will not deliver it."""
        found: dict[str, str] = {}
        for queue in dict.fromkeys(run.queue for run in page):
            runs = [run for run in page if run.queue == queue]
            places = self._broker.find(queue, [run.id for run in runs])
            for run, place in zip(runs, places or (), strict=places is not None):
                why = _suspicion(place)
                if why:
                    found[run.id] = why
        return found

    def _unknown(self) -> Iterator[str]:
        engine = self._broker.engine
        for queue in self._broker.queues if engine is not None else ():
            for place in (MessageState.READY, MessageState.SCHEDULED, MessageState.HELD, MessageState.LEASED):
                yield from self._unknown_in(queue, place)

    def _unknown_in(self, queue: str, place: MessageState) -> Iterator[str]:
        engine, offset = self._broker.engine, 0
        while engine is not None:
            page = engine.peek(queue, place, offset=offset, limit=PAGE)
            ids = [peeked.stored.message.task_id for peeked in page]
            with self._database.reading() as session:
                known = audit.known(session, ids)
            absent = [id for id in ids if id not in known]
            if absent:
                self._recorder.catch_up()
                with self._database.reading() as session:
                    known = audit.known(session, absent)
                yield from (id for id in absent if id not in known)
            if len(page) < PAGE:
                return
            offset += PAGE


def _suspicion(found: MessageInfo | None) -> str | None:
    if found is None:
        return "the engine does not have it"
    return "the engine gave it up" if found.state is MessageState.DEAD else None
