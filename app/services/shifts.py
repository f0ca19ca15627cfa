"""What one worker did, from its start to its end, counted from the history: the same for every kind of pool."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from app.core.errors import PlatformError
from app.core.logging import logger
from app.db.repositories import history as stories
from app.db.repositories import shifts as repository
from app.db.session import Database
from app.schemas.task import State
from app.services.history import History

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class ShiftFigures:
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


class Shift:
    """From now on, until `figures` are asked for. The bookmark is a place in the history, so no clock matters."""

    def __init__(self, database: Database, history: History, *, worker: str) -> None:
        self._database, self._history, self._worker = database, history, worker
        self._began, self._bookmark = monotonic(), 0

    def begin(self) -> None:
        """Everything up to now was done by others. Raises DatabaseUnavailable."""
        self._history.catch_up_quietly()  # also a worker of the same name that was killed
        with self._database.reading() as session:
            self._bookmark = stories.newest_event(session)

    def figures(self) -> ShiftFigures:
        """What was done. Raises DatabaseUnavailable; what could not be recorded now is missing, and logged."""
        try:
            self._history.catch_up()
        except PlatformError as error:
            log.warning("the figures may be incomplete, the history is behind", error=str(error))
        with self._database.reading() as session:
            counts = repository.outcomes(session, self._worker, after=self._bookmark)
            times = repository.times(session, self._worker, after=self._bookmark)
        unfinished = counts.pop("", 0) + counts.pop("lost", 0)
        return ShiftFigures(
            worker=self._worker, seconds=round(monotonic() - self._began, 3), processed=sum(counts.values()),
            completed=counts.get(State.COMPLETED, 0), retried=counts.get("retry", 0),
            failed=counts.get(State.FAILED, 0) + counts.get(State.DEAD_LETTER, 0),
            cancelled=counts.get(State.CANCELLED, 0) + counts.get(State.EXPIRED, 0), snoozed=counts.get("snoozed", 0),
            unfinished=unfinished, mean_seconds=times.mean if times else None, p95_seconds=times.p95 if times else None,
        )  # fmt: skip
