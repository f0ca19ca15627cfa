"""Statistics of a window of time, of all tasks, per queue and per type.

Their cost is bounded, whatever the history holds: an index leads to what ended last, and of that the newest
`MOST_COUNTED` tasks are counted and the newest `MOST_MEASURED` are measured. The answer says since when.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.queries import statistics as repository
from laneway.platform.db.queries.durations import TOTAL, Measured, Period
from laneway.platform.db.queries.statistics import By, Ended, Grouped, Which
from laneway.platform.db.session import Database
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.schemas.statistics import Durations, Performance, Window

MOST_COUNTED: Final = 100_000
MOST_MEASURED: Final = 10_000
NONE: Final = Ended(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the queries gave."""

    seconds: float
    ended: dict[Grouped, Ended]
    durations: dict[str, dict[Grouped, Measured]]

    def performance(self, group: Grouped) -> Performance:
        """Of one group."""
        ended = self.ended.get(group, NONE)
        over = ended.completed + ended.failed + ended.dead
        return Performance(
            completed=ended.completed,
            failed=ended.failed,
            dead=ended.dead,
            cancelled=ended.cancelled,
            expired=ended.expired,
            retried=ended.retried,
            success_rate=round(ended.completed / over, 4) if over else None,
            throughput=round(ended.completed / self.seconds, 4) if self.seconds > 0 else 0.0,
            waiting_seconds=_durations(self.durations["waited"].get(group)),
            processing_seconds=_durations(self.durations["processed"].get(group)),
        )

    def by(self, kind: By) -> dict[str, Performance]:
        """Of every group of a kind."""
        return {group[1]: self.performance(group) for group in sorted(self.ended) if group[0] is kind}


class Statistics:
    """Counts and measures what has ended lately."""

    def __init__(self, database: Database, recorder: JournalRecorder) -> None:
        self._database, self._recorder = database, recorder

    def window(self, seconds: float = 3600, *, queue: str | None = None, name: str | None = None) -> Window:
        """What ended within the last `seconds`, of one queue or one type if so wanted."""
        self._recorder.catch_up_quietly()
        until = clock.now()
        asked = Which(Period(until - timedelta(seconds=seconds), until), queue, name)
        with self._database.reading() as session:
            counted = _newest(session, asked, most=MOST_COUNTED)
            narrower = _newest(session, counted, most=MOST_MEASURED)
            found = _Found(
                _length(counted.period), repository.ended(session, counted), repository.durations(session, narrower)
            )
        return Window(
            seconds=found.seconds,
            since=counted.period.start,
            measured_since=narrower.period.start,
            until=until,
            total=found.performance((By.TOTAL, TOTAL)),
            queues=found.by(By.QUEUE),
            types=found.by(By.TYPE),
        )


def _newest(session: Session, which: Which, *, most: int) -> Which:
    """The same, begun later if more than `most` ended in it."""
    edge = repository.earliest(session, which, most=most)
    return which if edge is None else replace(which, period=Period(_after(edge), which.period.end))


def _after(moment: datetime) -> datetime:
    return moment + timedelta(microseconds=1)


def _length(period: Period) -> float:
    return round((period.end - period.start).total_seconds(), 6)


def _durations(measured: Measured | None) -> Durations:
    if measured is None:
        return Durations(count=0, mean=None, p50=None, p95=None)
    return Durations(count=measured.times, mean=measured.mean, p50=measured.p50, p95=measured.p95)
