"""Compares tasks and messages after the database or the broker was replaced by an older copy (`replaced_copies.py`).

First the messages: those of unknown tasks get rows, those of finished tasks are deleted. Then the tasks that were sent
before the database's copy was made: those that the engine does not have have ended since. Lost messages of an older
broker need nothing here: the maintenance sends the tasks again, as after any loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import QUEUE_REFUSALS, DuplicateTask, NewerQueue
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.history.replaced_copies import ReplacedCopy
from laneway.platform.logging import logger
from laneway.platform.operations.lost_tasks import LostTasks
from laneway.platform.operations.message_comparison import MessageComparison
from laneway.platform.task_manager import TaskManager

log = logger(__name__)

PAGE = 500
SENT_LATER = (*QUEUE_REFUSALS, DuplicateTask)


class Reconciliation:
    """Settles the differences that a replaced copy leaves."""

    def __init__(
        self, database: Database, broker: Broker, recorder: JournalRecorder, tasks: TaskManager, results: CeleryResults
    ) -> None:
        self._database, self._broker, self._recorder = database, broker, recorder
        self.messages = MessageComparison(database, broker, recorder)
        self.lost = LostTasks(database, broker, recorder, tasks, results)

    def settle_replaced_copies(self) -> int:
        """Compare each queue that was replaced; return how many differences were settled.

        A queue that a newer version of Laneway has changed is left to a worker of that version.

        Raises BrokerUnavailable, DatabaseUnavailable, ResultStoreUnavailable: the rest is settled by the next call.
        """
        settled = 0
        for copy in self._recorder.find_replaced_copies():
            with suppress(NewerQueue):
                settled += self._settle(copy)
        return settled

    def _settle(self, copy: ReplacedCopy) -> int:
        self._broker.prepare()  # enables the journals, if the broker is empty
        self._recorder.catch_up([copy.queue])
        findings = self.messages.compare(copy.queue, settle=True)
        settled = Counter(finding.difference for finding in findings if finding.settled)
        ended = self._settle_missing(copy.queue, copy.gap_until) if copy.gap_until is not None else 0
        self._recorder.forget_replacement(copy)
        counts = {difference.name.lower(): number for difference, number in settled.items()}
        log.warning("compared after a restore", queue=copy.queue, older=copy.older.value, ended=ended, **counts)
        return settled.total() + ended

    def _settle_missing(self, queue: str, gap_until: datetime) -> int:
        settled, after = 0, 0
        while True:
            with self._database.reading() as session:
                page = task_runs.unfinished_before(session, gap_until, after_seq=after, limit=PAGE)
            settled += self._settle_page([run for run in page if run.queue == queue], gap_until)
            if len(page) < PAGE:
                return settled
            after = page[-1].seq

    def _settle_page(self, runs: Sequence[TaskRun], gap_until: datetime) -> int:
        messages = self._broker.find(runs[0].queue, [run.id for run in runs]) if runs else []
        lost = [run for run, message in zip(runs, messages or (), strict=messages is not None) if message is None]
        ends, settled = self.lost.ends(lost) if lost else {}, 0
        for run in lost:
            try:
                self.lost.settle(run, None, ends.get(run.id), gap_until=gap_until)
            except SENT_LATER as error:
                log.warning("lost task not sent now", task_id=run.id, error=str(error))
            else:
                settled += 1
        return settled
