"""What every worker does beside its tasks, so that none is forgotten. A thread in each worker's main process:

1. reports that the worker lives, and which queues it serves;
2. records what the engine's journals say (`history.py`);
3. compares the ledger with the broker: what the broker lost is sent again;
4. sends what is accepted and not yet with the broker (`outbox.py`).

All of it is safe to do twice and in many workers at once: each step is a conditional update in the ledger,
and a second delivery of a task is refused at its claim. What depends on time (delays, retries, the leases of
dead workers) is the delivery engine's. Without the engine two and three are left out: nobody can look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from threading import Event, Thread
from time import monotonic

from laneway.engine import MessageInfo, MessageState
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs, workers
from laneway.platform.db.session import Database
from laneway.platform.errors import DuplicateTask, HistoryBehind, PlatformError, QueueFull
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.task_manager import TaskManager

log = logger(__name__)

TICK = 0.5
"""Seconds between looks at what is to be done."""
COMPARE_EVERY, PREPARE_EVERY = 5.0, 5.0
REPORT_SHARE = 0.2
"""Of a lease, between two reports: a worker that is silent for three is taken for dead (`Executions.claim`)."""
MISSING_AFTER = timedelta(seconds=10)
"""Sent or started so long ago, a task must be in the broker: publishing takes no longer."""
PAGE = 500


class Maintenance(Thread):
    """The thread; `stop` ends it at once."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        tasks: TaskManager,
        recorder: JournalRecorder,
        *,
        name: str,
        queues: Sequence[str],
        lease_seconds: float,
    ) -> None:
        super().__init__(name="laneway-steward", daemon=True)
        self._database, self._broker, self._tasks, self._recorder = database, broker, tasks, recorder
        self.worker, self._queues = name, queues
        self._report_every = lease_seconds * REPORT_SHARE
        self._started_at = clock.now()
        self._cursor = 0
        self._ended = Event()

    def run(self) -> None:
        jobs = [
            (self._report_every, self.report),
            (0.0, self.record),
            (0.0, self.relay),
            (PREPARE_EVERY, self._broker.prepare),
            (COMPARE_EVERY, self.reconcile),
        ]
        next_at = [0.0] * len(jobs)
        while not self._ended.is_set():
            for number, (every, job) in enumerate(jobs):
                if monotonic() >= next_at[number]:
                    next_at[number] = monotonic() + every
                    self._attempt(job)
            self._ended.wait(TICK)

    def stop(self) -> None:
        """End the thread and sign the worker off."""
        self._ended.set()
        self.join(timeout=5)
        self._attempt(self.sign_off)

    def report(self) -> None:
        """Say that this worker lives."""
        with self._database.transaction() as session:
            workers.report(session, self.worker, queues=self._queues, started_at=self._started_at, now=clock.now())

    def sign_off(self) -> None:
        """Say that this worker stopped."""
        with self._database.transaction() as session:
            workers.leave(session, self.worker)

    def reconcile(self) -> int:
        """Compare tasks that are not over with what the broker has, a page at a time, further if any was missing."""
        mended = 0
        while not self._ended.is_set():
            before = clock.now() - MISSING_AFTER
            with self._database.reading() as session:
                page = task_runs.unfinished_before(session, before, after_seq=self._cursor, limit=PAGE)
            self._cursor = page[-1].seq if len(page) == PAGE else 0
            missing = self._reconcile(page)
            mended += missing
            if not missing or not self._cursor:
                break
        return mended

    def record(self) -> int:
        """Bring the history up to date."""
        return self._recorder.catch_up()

    def relay(self) -> int:
        """Send what is accepted and not yet with the broker."""
        return self._tasks.outbox.relay()

    def _reconcile(self, page: Sequence[TaskRun]) -> int:
        missing: list[TaskRun] = []
        for queue in dict.fromkeys(run.queue for run in page):
            runs = [run for run in page if run.queue == queue]
            found = self._broker.find(queue, [run.id for run in runs])
            missing += [
                run for run, place in zip(runs, found or (), strict=found is not None) if self._gone(run, place)
            ]
        if missing:
            self._recorder.catch_up()  # what ended before we looked is over by now
            self._broker.prepare()  # without its journal nobody would hear of what is sent now
        full: set[str] = set()
        return sum(self._send_again(run, full) for run in missing)

    def _gone(self, run: TaskRun, found: MessageInfo | None) -> bool:
        """Whether the broker does not have a task, or only a dead letter from before it was sent anew by hand."""
        if found is not None and found.state is MessageState.DEAD and run.published_at is None:
            self._broker.discard(run.queue, run.id)
            return True
        return found is None

    def _send_again(self, run: TaskRun, full: set[str]) -> bool:
        if run.cancel_requested:
            with self._database.transaction() as session:
                return self._tasks.cancel_lost(session, run)
        if run.queue in full:
            return False
        try:
            sent = self._tasks.send(run)
        except (QueueFull, HistoryBehind) as error:  # what is left of it waits for room; other queues do not
            full.add(run.queue)
            log.warning("lost tasks not sent now", queue=run.queue, error=str(error))
            return False
        except DuplicateTask as error:  # its turn comes when the other one is over
            log.warning("lost task not sent now", task_id=run.id, error=str(error))
            return False
        if sent:
            log.warning("task sent again: the broker did not have it", task_id=run.id, task=run.name, was=run.state)
        return sent

    def _attempt(self, job: Callable[[], object]) -> None:
        try:
            job()
        except PlatformError as error:
            log.warning("steward: will try again", job=job.__name__, error=str(error))
        except Exception:
            log.exception("steward: unexpected error", job=job.__name__)
