"""The audit: compare the history, the engine and the result store, and report where they differ.

Each task that was ever accepted is in one state of the history, so this sum is always right:

    accepted = completed + failed + dead letters + cancelled + expired + waiting + running

It does not show whether a task was lost. Therefore the audit makes five comparisons. An audit without findings of the
first four is *balanced*:

1. **Engine → engine.** Each message must be in a state, and each reference must lead to a message
   (`Engine.find_strays`). Repair: the message is put back into its queue, the reference is deleted.
2. **Engine → history.** A message must belong to an unfinished task of the history (`message_comparison.py`). Findings:
   an unknown task, whose row is made from the message; a finished task, whose message is deleted.
3. **History → engine.** An unfinished task must be in the engine. Finding: the engine does not have it, or only has a
   dead message of it, so it would never run. Repair: send it again, or record how it ended (`lost_tasks.py`).
4. **History → result.** An unfinished task that the engine has must not have a final result. Repair: delete the result;
   the task continues.
5. **Finished task → result.** The result must say the same as the history (`result_audit.py`). The findings are
   reported separately. These tasks are not unaccounted for, because the history has their outcome.

Events that could not be recorded in the history make the audit unbalanced as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from laneway.engine import MessageInfo, MessageState, QueueStats, Stray
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import search, task_runs
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.errors import NewerQueue
from laneway.platform.execution.celery_results import CeleryResults, FinalResult
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.history.replaced_copies import OlderCopy, ReplacedCopy
from laneway.platform.operations.lost_tasks import LostTasks, Settled
from laneway.platform.operations.message_comparison import Difference, MessageComparison
from laneway.platform.operations.result_audit import ResultAudit, ResultReport
from laneway.platform.operations.unknown_queues import UnknownQueues
from laneway.platform.task_manager import TaskManager
from laneway.schemas.queue import UnknownQueue
from laneway.schemas.task import FINISHED, TaskState

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
    again: list[str] = field(default_factory=list)
    """Finished tasks that the engine would deliver, or that were sent again without the history knowing it."""
    strays: list[Stray] = field(default_factory=list)
    """Messages of the engine that are in no state, and references to messages that it does not have."""
    older: dict[str, OlderCopy] = field(default_factory=dict)
    """Queue → which of the two is an older copy, if one was restored and the two have not been compared since."""
    unknown_queues: list[UnknownQueue] = field(default_factory=list)
    """Queues of the engine that the application does not declare. Their messages are not compared."""
    repaired: int = 0
    results: ResultReport = field(default_factory=ResultReport)
    """Finished tasks compared with the result store; nothing in it is unaccounted for."""

    @property
    def newer(self) -> list[str]:
        """Queues that were not compared, because a newer version of Laneway has changed them."""
        return [queue for queue, stats in self.engine.items() if stats.is_newer]

    @property
    def balanced(self) -> bool:
        """Whether history and engine agree about each task and message of every queue, and every event is recorded."""
        findings = self.unaccounted or self.unknown or self.again or self.strays
        return not (findings or self.unread or self.newer)

    @property
    def open(self) -> int:
        """How many findings were not repaired. Events that are not recorded do not count."""
        found = len(self.unaccounted) + len(self.unknown) + len(self.again) + len(self.strays)
        return max(0, found - self.repaired)


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """An unfinished task of the history that the engine or the result store contradicts."""

    run: TaskRun
    is_lost: bool
    """Whether the engine will not deliver it."""
    message: MessageInfo | None
    """The dead message of a lost task, if the engine has one."""
    end: FinalResult | None
    """Its result, if that says that the task has ended."""

    @property
    def why(self) -> str:
        """The discrepancy in words."""
        lost = "the engine gave it up" if self.message else "the engine does not have it"
        result = f"its result says {self.end.state}" if self.end else None
        return "; ".join(reason for reason in (lost if self.is_lost else None, result) if reason)


class Audit:
    """Compares the history, the engine and the result store; reports each discrepancy, and repairs it if asked to."""

    def __init__(
        self, database: Database, broker: Broker, recorder: JournalRecorder, tasks: TaskManager, results: CeleryResults
    ) -> None:
        self._database, self._broker, self._recorder, self._tasks = database, broker, recorder, tasks
        self._results, self._result_audit = results, ResultAudit(database, recorder, results)
        self._messages = MessageComparison(database, broker, recorder)
        self._lost = LostTasks(database, broker, recorder, tasks, results)
        self._unknown_queues = UnknownQueues(broker)

    def run(self, *, repair: bool = False, between: Callable[[], None] = lambda: None) -> AuditReport:
        """Compare everything once. Raises BrokerUnavailable, DatabaseUnavailable, ResultStoreUnavailable.

        `between`: called between two pages; if it raises, the audit stops there.
        """
        self._recorder.catch_up()
        report = AuditReport()
        copies = {copy.queue: copy for copy in self._recorder.find_replaced_copies()}
        report.older = {queue: copy.older for queue, copy in copies.items()}
        compared = self._compare_messages(report, repair=repair, between=between)
        for found in self._discrepancies(between):
            run = found.run
            report.unaccounted.append(UnaccountedTask(run.id, run.name, run.queue, TaskState(run.state), found.why))
            if repair and self._repair(found, copies.get(run.queue)):
                report.repaired += 1
        for copy in [copies[queue] for queue in copies if repair and queue in compared]:
            self._recorder.forget_replacement(copy)
        report.unknown_queues = self._unknown_queues.look()
        report.results = self._result_audit.run(repair=repair, between=between)
        with self._database.reading() as session:
            report.by_state = search.counts_by_state(session, Filter())
        # A second query would count tasks that were accepted in between.
        report.accepted = sum(report.by_state.values())
        report.engine = {stats.queue: stats for stats in self._broker.stats(self._broker.queues) or ()}
        report.unread = sum(self._recorder.unread().values())
        return report

    def _repair(self, found: Discrepancy, copy: ReplacedCopy | None) -> bool:
        """Repair a discrepancy; False: the task has changed since."""
        if found.is_lost:
            gap_until = copy.gap_until if copy else None
            settled = self._lost.settle(found.run, found.message, found.end, gap_until=gap_until)
            return settled is not Settled.UNCHANGED
        self._results.forget(found.run.id)  # a new result would not replace a success
        return True

    # --- the history against the engine and the results of unfinished tasks

    def _discrepancies(self, between: Callable[[], None]) -> Iterator[Discrepancy]:
        after = 0
        while True:
            between()
            with self._database.reading() as session:
                page = task_runs.unfinished_before(session, clock.now() - GRACE, after_seq=after, limit=PAGE)
            yield from self._discrepancies_on(page)
            if len(page) < PAGE:
                return
            after = page[-1].seq

    def _discrepancies_on(self, page: Sequence[TaskRun]) -> Iterator[Discrepancy]:
        lost, ends = self._lost_of(page), self._results.ends(page)
        suspects = [run for run in page if run.id in lost or run.id in ends]
        if suspects:
            self._recorder.catch_up()  # tasks that ended during the comparison are recorded as finished now
        for run in suspects:
            current = self._tasks.current(run.id)
            if current.state not in FINISHED and current.published_at == run.published_at:
                yield Discrepancy(current, run.id in lost, lost.get(run.id), ends.get(run.id))

    def _lost_of(self, page: Sequence[TaskRun]) -> dict[str, MessageInfo | None]:
        """Return the tasks that the engine will not deliver: id → their dead message, or None."""
        lost: dict[str, MessageInfo | None] = {}
        for queue in dict.fromkeys(run.queue for run in page):
            runs = [run for run in page if run.queue == queue]
            try:
                messages = self._broker.find(queue, [run.id for run in runs])
            except NewerQueue:
                continue
            for run, message in zip(runs, messages or (), strict=messages is not None):
                if message is None or message.state is MessageState.DEAD:
                    lost[run.id] = message
        return lost

    # --- the engine against the history

    def _compare_messages(self, report: AuditReport, *, repair: bool, between: Callable[[], None]) -> set[str]:
        """Add the messages in no state, those of unknown tasks, and those of tasks that have finished.

        Returns the queues that were compared: all but those that a newer version of Laneway has changed.
        """
        compared: set[str] = set()
        for queue in self._broker.queues:
            with suppress(NewerQueue):
                self._compare_messages_of(queue, report, repair=repair, between=between)
                compared.add(queue)
        return compared

    def _compare_messages_of(
        self, queue: str, report: AuditReport, *, repair: bool, between: Callable[[], None]
    ) -> None:
        report.strays += (strays := self._broker.find_strays(queue, repair=repair))
        report.repaired += len(strays) if repair else 0
        for finding in self._messages.compare(queue, settle=repair, between=between):
            found = report.unknown if finding.difference is Difference.UNKNOWN else report.again
            found.append(finding.task_id)
            report.repaired += finding.settled
