"""What one worker did from its start to its end, counted in the history: this works for every kind of pool."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from laneway.platform.db.queries import task_events
from laneway.platform.db.queries import worker_summary as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.schemas.task import TaskState

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerTotals:
    """A worker's attempts by their outcome.

    `seconds`: how long the worker ran. `processed`: attempts that ended. `failed`: attempts after which the task had
    failed for good, dead letters included. `unfinished`: attempts that the worker started and did not end.
    `mean_seconds`, `p95_seconds`: durations of the processed attempts.
    """

    worker: str
    seconds: float
    processed: int
    completed: int
    retried: int
    failed: int
    cancelled: int
    snoozed: int
    unfinished: int
    mean_seconds: float | None
    p95_seconds: float | None


class WorkerMeter:
    """Counts what a worker does from `start` on.

    The beginning is an event of the history and not a time, so differing clocks do not matter.
    """

    def __init__(self, database: Database, recorder: JournalRecorder, *, worker: str) -> None:
        self._database, self._recorder, self._worker = database, recorder, worker
        self._started, self._first_event = monotonic(), 0

    def start(self) -> None:
        """Begin to count: exclude everything that is recorded so far. Raises DatabaseUnavailable."""
        self._recorder.catch_up_quietly()  # includes what a killed worker of the same name did
        with self._database.reading() as session:
            self._first_event = task_events.newest_event(session)

    def totals(self) -> WorkerTotals:
        """What the worker did. If the journals cannot be recorded, that is logged and the totals may be too low.

        Raises DatabaseUnavailable.
        """
        try:
            self._recorder.catch_up()
        except PlatformError as error:
            log.warning("the worker's totals may be incomplete: the history is behind", error=str(error))
        with self._database.reading() as session:
            counts = repository.outcomes(session, self._worker, after=self._first_event)
            times = repository.times(session, self._worker, after=self._first_event)
        unfinished = counts.pop("", 0) + counts.pop("lost", 0)
        return WorkerTotals(
            worker=self._worker,
            seconds=round(monotonic() - self._started, 3),
            processed=sum(counts.values()),
            completed=counts.get(TaskState.COMPLETED, 0),
            retried=counts.get("retry", 0),
            failed=counts.get(TaskState.FAILED, 0) + counts.get(TaskState.DEAD_LETTER, 0),
            cancelled=counts.get(TaskState.CANCELLED, 0) + counts.get(TaskState.EXPIRED, 0),
            snoozed=counts.get("snoozed", 0),
            unfinished=unfinished,
            mean_seconds=times.mean if times else None,
            p95_seconds=times.p95 if times else None,
        )
