"""Maintenance: what workers do beside their tasks, so that no task is forgotten.

Threads of each worker's main process do six things. They

1. report that the worker is alive and which queues it serves;
2. record the events of the engine's journals in the history (`JournalRecorder`);
3. send the tasks that were accepted and have not reached the broker yet (`Outbox`);
4. take in the tasks that other programs have put outside of the declared queues (`Intake`);
5. store once a minute what the queues look like (`QueueSamples`), set the limits that the broker's queues lack
   (`Broker.prepare`), compare the history with the broker, send again what the broker lost, look for batches that
   should have ended, and look once a minute whether the schedule stands still (`Alerts.watch_schedules`);
6. submit the webhooks of new events of tasks (`EventWebhooks`).

Each of the six has a thread of its own: a long journal, a broker that does not answer, or many lost tasks delay none
of the others, and above all not the report that the worker lives.

Every worker does all but the fifth: the report is about itself, and the others must go on at once when a worker dies.
Rows that are locked or claimed divide the work of 2, 3 and 6. The fifth is done by one worker of the fleet, which holds
a lease for it (`FleetLease`).

Each step may be repeated, also by many workers at once: it changes a row only if nobody else has changed it before, and
a second delivery of a task is refused when a worker starts it. The delivery engine handles everything that depends on
time: delays, retries and the leases of dead workers. Without the engine, 2, 4 and 5 do nothing, because the broker
cannot be asked what it holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from threading import Event, Thread
from time import monotonic
from uuid import uuid4

from laneway.engine import MessageInfo, MessageState
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs, workers
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import QUEUE_REFUSALS, DuplicateTask, NewerQueue, PlatformError
from laneway.platform.execution.celery_results import FinalResult
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.operations.disk_room import free_percent
from laneway.platform.operations.fleet_lease import FleetLease
from laneway.platform.operations.intake import Intake
from laneway.platform.operations.lost_tasks import Settled
from laneway.platform.operations.process_memory import memory_of_tree
from laneway.platform.operations.reconciliation import Reconciliation
from laneway.platform.task_manager import TaskManager
from laneway.transport.lease_keeper import held_count

log = logger(__name__)

TICK = 0.5
"""Seconds between two checks for due jobs."""
TAKE_IN_EVERY = 1.0
"""Seconds between two looks for the tasks of other programs."""
SEND_EVENTS_EVERY = 1.0
"""Seconds between two looks for events that are sent as webhooks."""
COMPARE_EVERY = 5.0
"""Seconds between two runs of `compare`."""
WATCH_EVERY = 60.0
"""Seconds between two looks at Beat's schedule; none earlier, so that Beat may start after the worker."""
COMPARE_LEASE = "compare"
TAKEOVER_AFTER = 3 * COMPARE_EVERY
"""A worker that did not renew the lease of `compare` for these seconds is dead; another one takes its place."""
REPORT_SHARE = 0.2
"""The share of a lease between two reports. A worker that misses three reports counts as dead (`LedgerAttempts`)."""
MISSING_AFTER = timedelta(seconds=10)
"""A task that was sent or started longer ago than this must be in the broker: publishing takes less time."""
SCHEMA_EVERY = 60.0
"""Seconds between two looks at the version of the tables, which another program may migrate at any time."""
WAIT_SECONDS = 5.0
"""Most seconds that a job waits for a database that another program holds. Meanwhile no pool process can be forked."""
STOP_SECONDS = 5.0
"""How long a stop waits for the current jobs."""
PAGE = 500


class Maintenance:
    """The maintenance threads of one worker."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        tasks: TaskManager,
        recorder: JournalRecorder,
        reconciliation: Reconciliation,
        *,
        name: str,
        queues: Sequence[str],
        lease_seconds: float,
        watch_schedules: Callable[[], object] = lambda: None,
        watch_schema: Callable[[], object] = lambda: None,
        take_sample: Callable[[], object] = lambda: None,
        send_events: Callable[[], object] = lambda: None,
        data_folder: Path | None = None,
    ) -> None:
        """`data_folder`: `DATA_DIR`; the worker reports how much of its disk is free."""
        self._database, self._broker, self._tasks, self._recorder = database, broker, tasks, recorder
        self._reconciliation, self._intake = reconciliation, Intake(broker)
        self.worker, self._queues = name, queues
        self._id = uuid4().hex
        """Another worker may have the same name."""
        self._report_every = lease_seconds * REPORT_SHARE
        self._started_at = clock.now()
        self._lease = FleetLease(database, COMPARE_LEASE, worker=name, seconds=TAKEOVER_AFTER)
        self._cursor = 0
        self._watch_schema, self._schema_at = watch_schema, monotonic() + SCHEMA_EVERY
        self._take_sample, self._data_folder = take_sample, data_folder
        self._send_events = send_events
        self._watch_schedules, self._watch_at = watch_schedules, monotonic() + WATCH_EVERY
        self._stopped = Event()
        self._problems: dict[str, str] = {}
        """Job → why it could not be done; each reason is logged once."""
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Compare replaced copies, before the worker takes its first task, and start the threads."""
        self._attempt(self._reconciliation.settle_replaced_copies)
        for every, job in (
            (self._report_every, self.report),
            (0.0, self.record),
            (0.0, self.relay),
            (TAKE_IN_EVERY, self.take_in),
            (COMPARE_EVERY, self.compare),
            (SEND_EVENTS_EVERY, self.send_events),
        ):
            thread = Thread(target=self._run, args=(every, job), name=f"laneway-{job.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop each thread after its current job, give the lease back, and remove this worker from the live workers."""
        self._stopped.set()
        end = monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - monotonic()))
        self._attempt(self._lease.release)
        self._attempt(self.sign_off)

    @property
    def is_running(self) -> bool:
        """True while a thread runs."""
        return any(thread.is_alive() for thread in self._threads)

    def _run(self, every: float, job: Callable[[], object]) -> None:
        next_at = 0.0
        while not self._stopped.is_set():
            if monotonic() >= next_at:
                next_at = monotonic() + every
                self._attempt(job)
            self._stopped.wait(TICK)

    def report(self) -> None:
        """Store that this worker is alive."""
        disk_free = free_percent(self._data_folder) if self._data_folder else None
        with self._database.transaction() as session:
            workers.report(
                session,
                self.worker,
                id=self._id,
                queues=self._queues,
                started_at=self._started_at,
                now=clock.now(),
                host=gethostname(),
                version=version("laneway"),
                memory=memory_of_tree(os.getpid()),
                leases=held_count(),
                disk_free=disk_free,
            )

    def sign_off(self) -> None:
        """Remove this worker from the list of live workers."""
        with self._database.transaction() as session:
            workers.leave(session, self._id)

    def note_stuck(self, reason: str) -> None:
        """Store why this worker restarts itself, for the alert and for the attempts that it may lose."""
        with limit_waits(WAIT_SECONDS), self._database.transaction() as session:
            workers.note_stuck(session, self._id, how=reason)

    def compare(self) -> int:
        """Restore the limits and send again the tasks that the broker lost, if this worker holds the lease for it.

        Return the number of tasks. After an error the lease is given back: another worker may reach the broker.
        """
        if monotonic() >= self._schema_at:
            self._schema_at = monotonic() + SCHEMA_EVERY
            self._watch_schema()
        if not self._lease.hold():
            return 0
        try:
            self._take_sample()
            self._broker.prepare()
            repaired = self.reconcile()
            self._tasks.outbox.batches.check_overlooked()
            if monotonic() >= self._watch_at:
                self._watch_at = monotonic() + WATCH_EVERY
                self._watch_schedules()
        except Exception:
            self._lease.release()
            raise
        return repaired

    def reconcile(self) -> int:
        """Send again the unfinished tasks that the broker lost, or record that they have ended; return how many.

        First settles the differences that an older copy of the database or the broker has left. Then compares one page
        of unfinished tasks with the broker, and goes on to the next page while a page had losses and this worker holds
        the lease.
        """
        self._reconciliation.settle_replaced_copies()
        repaired = 0
        while not self._stopped.is_set():
            before = clock.now() - MISSING_AFTER
            with self._database.reading() as session:
                page = task_runs.unfinished_before(session, before, after_seq=self._cursor, limit=PAGE)
            self._cursor = page[-1].seq if len(page) == PAGE else 0
            sent = self._reconcile_page(page)
            repaired += sent
            if not sent or not self._cursor or not self._lease.hold():
                break
        return repaired

    def record(self) -> int:
        """Record the new events of the journals; return how many."""
        return self._recorder.catch_up()

    def relay(self) -> int:
        """Send the tasks that were accepted and have not reached the broker; return how many."""
        return self._tasks.outbox.relay()

    def take_in(self) -> int:
        """Queue the tasks that other programs have put outside of the declared queues; return how many."""
        return self._intake.take()

    def send_events(self) -> None:
        """Submit the webhooks of new events of tasks."""
        self._send_events()

    def _reconcile_page(self, page: Sequence[TaskRun]) -> int:
        lost: list[tuple[TaskRun, MessageInfo | None]] = []
        for queue in dict.fromkeys(run.queue for run in page):
            lost += self._lost_of(queue, [run for run in page if run.queue == queue])
        if not lost:
            return 0
        # Tasks that ended before the comparison are recorded as finished now.
        self._recorder.catch_up(list({run.queue for run, _ in lost}))
        self._broker.prepare()  # enables the journals; without them the events of the tasks sent now would be lost
        ends, full_queues = self._reconciliation.lost.ends([run for run, _ in lost]), set[str]()
        return sum(self._settle(run, message, ends.get(run.id), full_queues) for run, message in lost)

    def _lost_of(self, queue: str, runs: Sequence[TaskRun]) -> list[tuple[TaskRun, MessageInfo | None]]:
        """The tasks of a queue that the engine will not deliver, each with its dead message, if there is one.

        Where a message is missing, keys may be missing, too: what is left of the messages is put in order first, so
        that nothing of a lost message is taken for the next one.
        """
        ids = [run.id for run in runs]
        try:
            messages = self._broker.find(queue, ids)
            if any(message is None or message.state is MessageState.STRAY for message in messages or ()):
                self._broker.find_strays(queue, repair=True)
                messages = self._broker.find(queue, ids)
        except NewerQueue:
            return []  # a worker of the newer version compares it when it holds the lease
        pairs = zip(runs, messages or (), strict=messages is not None)
        return [(run, message) for run, message in pairs if message is None or message.state is MessageState.DEAD]

    def _settle(
        self, run: TaskRun, message: MessageInfo | None, end: FinalResult | None, full_queues: set[str]
    ) -> bool:
        if run.queue in full_queues:
            return False
        try:
            settled = self._reconciliation.lost.settle(run, message, end, gap_until=None)
        except QUEUE_REFUSALS as error:
            full_queues.add(run.queue)
            log.warning("lost tasks not sent now", queue=run.queue, error=str(error))
            return False
        except DuplicateTask as error:  # it is sent later, when the task with the same uniqueness key has finished
            log.warning("lost task not sent now", task_id=run.id, error=str(error))
            return False
        return settled is not Settled.UNCHANGED

    def _attempt(self, job: Callable[[], object]) -> None:
        try:
            with limit_waits(WAIT_SECONDS):
                job()
        except PlatformError as error:
            if self._problems.get(job.__name__) != str(error):
                self._problems[job.__name__] = str(error)
                log.warning("maintenance: will try again", job=job.__name__, error=str(error))
        except Exception:
            log.exception("maintenance: unexpected error", job=job.__name__)
        else:
            if self._problems.pop(job.__name__, None) is not None:
                log.info("maintenance: works again", job=job.__name__)
