"""The audit: compare the history, the engine and the result store, and report where they differ.

Each task that was ever accepted is in one state of the history, so this sum is always right:

    accepted = completed + failed + dead letters + cancelled + expired + waiting + running

It does not show whether a task was lost. Therefore the audit makes four comparisons. A task with a finding of the first
three is *unaccounted for*, and an audit without such findings is *balanced*:

1. **History → engine.** An unfinished task must be in the engine. Finding: the engine does not have it, or only has a
   dead message of it, so it would never run. Repair: send it again.
2. **History → result.** An unfinished task must not have a final result. Finding: its result says that it has ended, so
   work was done that the history does not know. Repair: delete the result; the task continues.
3. **Engine → history.** A message in the engine must belong to a task of the history. Finding: an unknown task. There
   is no repair.
4. **Finished task → result.** The result must say the same as the history (`result_audit.py`). The findings are
   reported separately. These tasks are not unaccounted for, because the history has their outcome.

Events that could not be recorded in the history make the audit unbalanced as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from laneway.engine import MessageInfo, MessageState, QueueStats
from laneway.engine import NewerQueue as EngineNewerQueue
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import audit, search, task_runs
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.errors import NewerQueue
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.operations.result_audit import ResultAudit, ResultReport
from laneway.platform.schemas.task import FINISHED, TaskState
from laneway.platform.task_manager import TaskManager

PAGE = 500
GRACE = timedelta(seconds=2)
"""Tasks that were sent more recently are not compared: their message may be on its way to the engine."""


@dataclass(frozen=True, slots=True)
class UnaccountedTask:
    """An unfinished task that the engine will not deliver, or whose result says that it has ended."""

    task_id: str
    name: str
    queue: str
    state: TaskState
    why: str


@dataclass(slots=True)
class AuditReport:
    """The result of an audit."""

    accepted: int = 0
    """All tasks of the history."""
    by_state: dict[TaskState, int] = field(default_factory=dict)
    engine: dict[str, QueueStats] = field(default_factory=dict)
    unread: int = 0
    """Events that are not recorded yet, although the audit tried to record all of them."""
    unaccounted: list[UnaccountedTask] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Tasks in the engine that the history does not know."""
    repaired: int = 0
    results: ResultReport = field(default_factory=ResultReport)
    """Finished tasks compared with the result store; nothing in it is unaccounted for."""

    @property
    def newer(self) -> list[str]:
        """Queues that were not compared, because a newer version of Laneway has changed them."""
        return [queue for queue, stats in self.engine.items() if stats.is_newer]

    @property
    def balanced(self) -> bool:
        """Whether no task is unaccounted for, no message is unknown, and every event is recorded, in every queue."""
        return not (self.unaccounted or self.unknown or self.unread or self.newer)


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """An unfinished task of the history that the engine or the result store contradicts."""

    run: TaskRun
    undeliverable: str | None
    """Why the engine will not deliver it; None: it will."""
    final_result: str | None
    """Celery's state in its result, if the result says that the task has ended."""

    @property
    def why(self) -> str:
        """The discrepancy in words."""
        result = f"its result says {self.final_result}" if self.final_result else None
        return "; ".join(reason for reason in (self.undeliverable, result) if reason)


class Audit:
    """Compares the history, the engine and the result store; reports each discrepancy, and repairs it if asked to."""

    def __init__(
        self, database: Database, broker: Broker, recorder: JournalRecorder, tasks: TaskManager, results: CeleryResults
    ) -> None:
        self._database, self._broker, self._recorder, self._tasks = database, broker, recorder, tasks
        self._results = ResultAudit(database, recorder, results)

    def run(self, *, repair: bool = False) -> AuditReport:
        """Compare everything once. Raises BrokerUnavailable, DatabaseUnavailable, ResultStoreUnavailable."""
        self._recorder.catch_up()
        report = AuditReport()
        for found in self._discrepancies():
            run = found.run
            report.unaccounted.append(UnaccountedTask(run.id, run.name, run.queue, TaskState(run.state), found.why))
            if repair and self._repair(found):
                report.repaired += 1
        report.unknown = list(self._unknown_tasks())
        report.results = self._results.run(repair=repair)
        with self._database.reading() as session:
            report.by_state = search.counts_by_state(session, Filter())
        # A second query would count tasks that were accepted in between.
        report.accepted = sum(report.by_state.values())
        report.engine = {stats.queue: stats for stats in self._broker.stats(self._broker.queues) or ()}
        report.unread = sum(self._recorder.unread().values())
        return report

    def _repair(self, found: Discrepancy) -> bool:
        """Repair a discrepancy. The result is deleted first, because a new result would not replace a success."""
        run = found.run
        if found.final_result:
            self._results.delete_result(run.id)
        if not found.undeliverable:
            return True
        self._broker.discard(run.queue, run.id)  # a message with the id of its dead letter would be refused
        return self._tasks.send(run)

    # --- the history against the engine and the results of unfinished tasks

    def _discrepancies(self) -> Iterator[Discrepancy]:
        after = 0
        while True:
            with self._database.reading() as session:
                page = task_runs.unfinished_before(session, clock.now() - GRACE, after_seq=after, limit=PAGE)
            yield from self._discrepancies_on(page)
            if len(page) < PAGE:
                return
            after = page[-1].seq

    def _discrepancies_on(self, page: Sequence[TaskRun]) -> Iterator[Discrepancy]:
        undeliverable, final = self._undeliverable(page), self._results.final_results(page)
        suspects = [run for run in page if run.id in undeliverable or run.id in final]
        if suspects:
            self._recorder.catch_up()  # tasks that ended during the comparison are recorded as finished now
        for run in suspects:
            current = self._tasks.current(run.id)
            if current.state not in FINISHED and current.published_at == run.published_at:
                yield Discrepancy(current, undeliverable.get(run.id), final.get(run.id))

    def _undeliverable(self, page: Sequence[TaskRun]) -> dict[str, str]:
        """Return task id → why the engine will not deliver it."""
        reasons: dict[str, str] = {}
        for queue in dict.fromkeys(run.queue for run in page):
            runs = [run for run in page if run.queue == queue]
            try:
                messages = self._broker.find(queue, [run.id for run in runs])
            except NewerQueue:
                continue
            for run, message in zip(runs, messages or (), strict=messages is not None):
                reason = _reason_undeliverable(message)
                if reason:
                    reasons[run.id] = reason
        return reasons

    # --- the engine against the history

    def _unknown_tasks(self) -> Iterator[str]:
        """Yield the ids of tasks that the engine has and the history does not know."""
        engine = self._broker.engine
        for queue in self._broker.queues if engine is not None else ():
            with suppress(EngineNewerQueue):
                for state in (MessageState.READY, MessageState.SCHEDULED, MessageState.HELD, MessageState.LEASED):
                    yield from self._unknown_tasks_in(queue, state)

    def _unknown_tasks_in(self, queue: str, state: MessageState) -> Iterator[str]:
        engine, offset = self._broker.engine, 0
        while engine is not None:
            page = engine.peek(queue, state, offset=offset, limit=PAGE, bodies=False)
            unknown = self._unknown_to_history([message.stored.message.task_id for message in page])
            if unknown:
                self._recorder.catch_up()  # adds rows for the tasks that were sent without the platform
                yield from self._unknown_to_history(unknown)
            if len(page) < PAGE:
                return
            offset += PAGE

    def _unknown_to_history(self, ids: Sequence[str]) -> list[str]:
        with self._database.reading() as session:
            known = audit.known(session, ids)
        return [id for id in ids if id not in known]


def _reason_undeliverable(message: MessageInfo | None) -> str | None:
    if message is None:
        return "the engine does not have it"
    return "the engine gave it up" if message.state is MessageState.DEAD else None
