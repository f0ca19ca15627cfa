"""Reads tasks: status, search, figures of queues. The journals are recorded first, so that the rows are up to date."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from laneway.platform import clock
from laneway.platform.access.bounds import covers
from laneway.platform.access.caller import current_caller
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import queue_limits, scan, search, task_runs, workers
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.errors import TaskExpired, UnknownTask
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.history.task_views import describe, describe_worker, queue_figures
from laneway.platform.logging import without_secrets
from laneway.platform.queues import queues as declared
from laneway.platform.sealing import shown_payload
from laneway.platform.settings import TaskSettings
from laneway.platform.tracing.carrier import recorded_trace
from laneway.platform.waiting.reasons import WaitingReasons
from laneway.schemas.task import FINISHED, QueueFigures, TaskDetails, TaskState, TaskStatus
from laneway.schemas.waiting import WhyResponse
from laneway.schemas.worker import WorkerView

MOST_WORKERS: Final = 1000
MOST_RUNNING: Final = 5000
"""Running tasks that are attributed to workers."""


def _is_visible(run: TaskRun) -> bool:
    return covers(current_caller(), run.id, name=run.name, queue=run.queue)


class TaskReader:
    """Answers questions about tasks."""

    def __init__(self, database: Database, broker: Broker, recorder: JournalRecorder, settings: TaskSettings) -> None:
        self._database, self._recorder, self._settings = database, recorder, settings
        self._reasons = WaitingReasons(database, broker)

    def current(self, id: str) -> TaskRun:
        """The row of a task, up to date. Raises UnknownTask, also for a task that the caller may not see."""
        with self._database.reading() as session:
            run = task_runs.find(session, id)
        if run is not None and not _is_visible(run):
            raise UnknownTask(id)
        if run is not None and run.state in FINISHED:
            return run
        self._recorder.catch_up_quietly([run.queue] if run is not None else None)
        with self._database.reading() as session:
            run = task_runs.get(session, id)
        if not _is_visible(run):
            raise UnknownTask(id)
        return run

    def status(self, id: str) -> TaskDetails:
        """The status of a task, and its payload. Raises UnknownTask, and TaskExpired when it finished too long ago."""
        return self.details(self._shown(id))

    def _shown(self, id: str) -> TaskRun:
        run = self.current(id)
        if run.finished_at and run.finished_at < clock.now() - timedelta(hours=self._settings.status_expiry_hours):
            raise TaskExpired(id, self._settings.status_expiry_hours)
        return run

    def details(self, run: TaskRun) -> TaskDetails:
        """The status of a task, however long ago it finished, and what is kept of its payload."""
        with self._database.reading() as session:
            serving = workers.serving(session, now=clock.now()).get(run.queue, 0)
        status = describe(run, waiting_for=self._reasons.first(run, serving=serving))
        payload = without_secrets(shown_payload(run.payload))
        return TaskDetails(**dict(status), payload=payload, trace_id=recorded_trace(run.options))

    def why(self, id: str) -> WhyResponse:
        """Why a task waits, and when it will probably start and end. Raises as `status`."""
        return self._reasons.why(self._shown(id))

    def search(
        self, which: Filter, *, before: int | None = None, limit: int = 50
    ) -> tuple[list[TaskStatus], int | None]:
        """Tasks, newest first, and the `before` of the next page; None after the last page."""
        self._recorder.catch_up_quietly([which.queue] if which.queue else None)
        with self._database.reading() as session:
            page = search.page(session, which, before=before, limit=limit)
        return [describe(run) for run in page], page[-1].seq if len(page) == limit else None

    def scan(self, which: Filter, *, before: int | None = None, limit: int = 50) -> tuple[list[TaskStatus], int | None]:
        """As `search`, but in a bounded time for each filter: a page may have fewer tasks, and more may follow it."""
        self._recorder.catch_up_quietly([which.queue] if which.queue else None)
        with self._database.reading() as session:
            found = scan.scan(session, which, before=before, limit=limit)
        return [describe(run) for run in found.rows], found.next

    def by_ids(self, ids: Sequence[str]) -> list[TaskStatus]:
        """The known tasks of these ids, in the order of submission."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return [describe(run) for run in task_runs.by_ids(session, ids)]

    def by_state(self, states: Sequence[TaskState], *, limit: int) -> list[TaskStatus]:
        """Tasks in these states, newest first."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return [describe(run) for run in task_runs.by_state(session, states, limit=limit)]

    def counts(self, which: Filter) -> dict[TaskState, int]:
        """State → number of selected tasks."""
        with self._database.reading() as session:
            return search.counts_by_state(session, which)

    def queues(self) -> dict[str, QueueFigures]:
        """Queue → its figures, for the declared queues and those that have tasks."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            counts = task_runs.count_by_queue(session, now=clock.now())
            serving = workers.serving(session, now=clock.now())
            paused = {limit.queue for limit in queue_limits.all_limits(session) if limit.paused}
        names = [*declared, *sorted({queue for queue, _ in counts} - set(declared))]
        return {name: queue_figures(name, counts, serving, paused=name in paused) for name in names}

    def live_workers(self) -> int:
        """The number of live workers: those that reported recently (`workers.ALIVE`)."""
        with self._database.reading() as session:
            return len(workers.alive(session, now=clock.now()))

    def workers(self) -> list[WorkerView]:
        """The workers that have not signed off, by name: live ones, and those that are silent."""
        self._recorder.catch_up_quietly()
        now = clock.now()
        with self._database.reading() as session:
            rows = workers.listing(session, limit=MOST_WORKERS)
            running = workers.running(session, limit=MOST_RUNNING)
        newest = {row.name: row for row in reversed(rows)}  # of one name, the first row is the newest
        return [
            describe_worker(row, running=running.get(row.name, []) if newest[row.name] is row else [], now=now)
            for row in rows
        ]
