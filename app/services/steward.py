"""What every worker does beside its tasks, so that none is forgotten. A thread in each worker's main process:

1. reports that the worker lives, and which queues it serves;
2. sends scheduled tasks (delays, retries) whose time has come;
3. sends held tasks whose turn has come, if nobody did;
4. takes over tasks whose worker died: its lease ran out;
5. sends again what the broker lost: tasks that were sent, not started, and are in no queue.

All of it is safe to do twice and in many workers at once: each step is a conditional update in the ledger,
and a second delivery of a task is refused at its claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from threading import Event, Thread
from time import monotonic

from app.core import clock
from app.core.errors import Conflict, PlatformError, WorkerLost
from app.core.logging import logger
from app.db.models import TaskRun
from app.db.repositories import task_runs, webhooks, workers
from app.db.session import Database
from app.schemas.task import State
from app.services import webhooks as webhook_service
from app.services.broker import Broker
from app.services.executions import Executions, Raised
from app.services.task_manager import TaskManager

log = logger(__name__)

TICK = 1.0
"""Seconds between looks for what is due."""
REPORT_EVERY, RECOVER_EVERY, SEARCH_EVERY = 5.0, 5.0, 5.0
LOST_AFTER = timedelta(seconds=10)
"""A task that was sent this long ago and is in no queue was lost; a worker starts what it takes at once."""


class Steward(Thread):
    """The thread; `stop` ends it at once."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        tasks: TaskManager,
        executions: Executions,
        *,
        name: str,
        queues: Sequence[str],
    ) -> None:
        super().__init__(name="laneway-steward", daemon=True)
        self._database, self._broker, self._tasks, self._executions = database, broker, tasks, executions
        self.worker, self._queues = name, queues
        self._ended = Event()

    def run(self) -> None:
        jobs = [(0.0, self.send_due), (REPORT_EVERY, self.report), (RECOVER_EVERY, self.take_over),
                (RECOVER_EVERY, self.send_released), (SEARCH_EVERY, self.send_lost),
                (SEARCH_EVERY, self.queue_deliveries)]  # fmt: skip
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
            workers.report(session, self.worker, queues=self._queues, now=clock.now())

    def sign_off(self) -> None:
        """Say that this worker stopped."""
        with self._database.transaction() as session:
            workers.leave(session, self.worker)

    def send_due(self) -> int:
        """Send scheduled tasks whose time has come."""
        with self._database.reading() as session:
            runs = task_runs.due(session, now=clock.now())
        return self._send(runs, "due")

    def send_released(self) -> int:
        """Send held tasks whose turn has come."""
        with self._database.reading() as session:
            runs = task_runs.released(session)
        return self._send(runs, "released")

    def take_over(self) -> int:
        """Settle attempts whose lease ran out as lost with their worker: retried at once, or dead after too many."""
        now = clock.now()
        with self._database.reading() as session:
            runs = task_runs.overdue(session, now=now)
        return sum(self._take_over(run, lapsed_at=now) for run in runs)

    def send_lost(self) -> int:
        """Send again what was sent, has not started, and is in no queue."""
        before = clock.now() - LOST_AFTER
        with self._database.reading() as session:
            queues = task_runs.queues_published_before(session, before)
        return sum(self._send_lost(queue, before) for queue in queues)

    def queue_deliveries(self) -> int:
        """Queue the stored webhook deliveries whose queueing failed."""
        with self._database.reading() as session:
            left = webhooks.unqueued(session, before=clock.now() - LOST_AFTER)
        return sum(self._queue_delivery(id, source) for id, source in left)

    def _queue_delivery(self, id: str, source: str) -> int:
        try:
            webhook_service.queue_delivery(self._database, self._tasks, id, source=source)
        except Conflict as error:  # it will never work, but must not keep the others from being queued
            log.error("webhook delivery not queued", delivery=id, error=str(error))
            return 0
        return 1

    def _take_over(self, run: TaskRun, *, lapsed_at: datetime) -> int:
        policy = self._executions.policy(max_retries=run.max_retries, schedule=(0.0,))
        lost = Raised(WorkerLost(run.worker or "?"))
        state = self._executions.settle(run, lost, policy=policy, lapsed_at=lapsed_at)
        if state is None:
            return 0
        log.warning(
            "task taken over from a lost worker",
            task_id=run.id,
            task=run.name,
            lost_worker=run.worker,
            attempt=run.attempts,
            now=state,
        )
        return 1

    def _send_lost(self, queue: str, before: datetime) -> int:
        waiting = self._broker.waiting_ids(queue)
        if waiting is None:
            return 0
        sent, after = 0, 0
        while True:
            with self._database.reading() as session:
                page = task_runs.published_before(session, before, after_seq=after, queue=queue)
            if not page:
                return sent
            after = page[-1].seq
            sent += self._send((run for run in page if run.id not in waiting), "lost by the broker")

    def _send(self, runs: Iterable[TaskRun], why: str) -> int:
        sent = 0
        for run in runs:
            if self._ended.is_set():
                break
            if self._tasks.send(run):
                sent += 1
                if run.state != State.SCHEDULED:
                    log.info("task sent again", task_id=run.id, task=run.name, why=why)
        return sent

    def _attempt(self, job: Callable[[], object]) -> None:
        try:
            job()
        except PlatformError as error:
            log.warning("steward: will try again", job=job.__name__, error=str(error))
        except Exception:
            log.exception("steward: unexpected error", job=job.__name__)
