"""What one worker did, from its start to its end, counted from the history: the same for every kind of pool."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from laneway.platform.db.queries import task_events as stories
from laneway.platform.db.queries import worker_summary as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.schemas.task import TaskState

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """Attempts by their outcome; times in seconds, of those that ended.

    `processed`: all that ended. `failed`: for good, dead letters too. `unfinished`: begun, and not ended here.
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


class WorkerSummary:
    """From now on, until `figures` are asked for. The bookmark is a place in the history, so no clock matters."""

    def __init__(self, database: Database, recorder: JournalRecorder, *, worker: str) -> None:
        self._database, self._recorder, self._worker = database, recorder, worker
        self._began, self._bookmark = monotonic(), 0

    def begin(self) -> None:
        """Everything up to now was done by others. Raises DatabaseUnavailable."""
        self._recorder.catch_up_quietly()  # also a worker of the same name that was killed
        with self._database.reading() as session:
            self._bookmark = stories.newest_event(session)

    def figures(self) -> WorkerFigures:
        """What was done. Raises DatabaseUnavailable; what could not be recorded now is missing, and logged."""
        try:
            self._recorder.catch_up()
        except PlatformError as error:
            log.warning("the figures may be incomplete, the history is behind", error=str(error))
        with self._database.reading() as session:
            counts = repository.outcomes(session, self._worker, after=self._bookmark)
            times = repository.times(session, self._worker, after=self._bookmark)
        unfinished = counts.pop("", 0) + counts.pop("lost", 0)
        return WorkerFigures(
            worker=self._worker,
            seconds=round(monotonic() - self._began, 3),
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
