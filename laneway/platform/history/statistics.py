"""Statistics of the tasks that ended within a window of time: of all, per queue and per task name.

Their cost is bounded, however large the history is. An index finds the tasks that ended last. The newest `MAX_COUNTED`
of them are counted, and the durations of the newest `MAX_MEASURED` are measured. The result says since when.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.queries import statistics as repository
from laneway.platform.db.queries.durations import TOTAL, Measured, Period
from laneway.platform.db.queries.statistics import EndCounts, EndedFilter, GroupBy, GroupKey
from laneway.platform.db.session import Database
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.schemas.statistics import Durations, Performance, Window

MAX_COUNTED: Final = 100_000
MAX_MEASURED: Final = 10_000
NO_ENDS: Final = EndCounts(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _QueryResults:
    """The counts and durations of every group. `seconds`: the length of the counted period."""

    seconds: float
    ends: dict[GroupKey, EndCounts]
    durations: dict[str, dict[GroupKey, Measured]]

    def performance(self, group: GroupKey) -> Performance:
        """The figures of one group."""
        ends = self.ends.get(group, NO_ENDS)
        rated = ends.completed + ends.failed + ends.dead
        return Performance(
            completed=ends.completed,
            failed=ends.failed,
            dead=ends.dead,
            cancelled=ends.cancelled,
            expired=ends.expired,
            retried=ends.retried,
            success_rate=round(ends.completed / rated, 4) if rated else None,
            throughput=round(ends.completed / self.seconds, 4) if self.seconds > 0 else 0.0,
            waiting_seconds=_durations(self.durations["waited"].get(group)),
            processing_seconds=_durations(self.durations["processed"].get(group)),
        )

    def by(self, group_by: GroupBy) -> dict[str, Performance]:
        """Group name → figures, for every queue or every task name."""
        return {group[1]: self.performance(group) for group in sorted(self.ends) if group[0] is group_by}


class Statistics:
    """Counts and measures the tasks that ended recently."""

    def __init__(self, database: Database, recorder: JournalRecorder) -> None:
        self._database, self._recorder = database, recorder

    def window(self, seconds: float = 3600, *, queue: str | None = None, name: str | None = None) -> Window:
        """Statistics of the tasks that ended within the last `seconds`; `queue`, `name`: only of that queue or name.

        Raises DatabaseUnavailable.
        """
        self._recorder.catch_up_quietly([queue] if queue else None)
        until = clock.now()
        requested = EndedFilter(Period(until - timedelta(seconds=seconds), until), queue, name)
        with self._database.reading() as session:
            counted = _newest(session, requested, limit=MAX_COUNTED)
            measured = _newest(session, counted, limit=MAX_MEASURED)
            results = _QueryResults(
                seconds=_length(counted.period),
                ends=repository.count_ends(session, counted),
                durations=repository.durations(session, measured),
            )
        return Window(
            seconds=results.seconds,
            since=counted.period.start,
            measured_since=measured.period.start,
            until=until,
            total=results.performance((GroupBy.TOTAL, TOTAL)),
            queues=results.by(GroupBy.QUEUE),
            types=results.by(GroupBy.NAME),
        )


def _newest(session: Session, ended: EndedFilter, *, limit: int) -> EndedFilter:
    """The filter with a later start, if more than `limit` tasks ended in its period."""
    last_excluded = repository.last_beyond(session, ended, limit=limit)
    return ended if last_excluded is None else replace(ended, period=Period(_after(last_excluded), ended.period.end))


def _after(moment: datetime) -> datetime:
    return moment + timedelta(microseconds=1)


def _length(period: Period) -> float:
    return round((period.end - period.start).total_seconds(), 6)


def _durations(measured: Measured | None) -> Durations:
    if measured is None:
        return Durations(count=0, mean=None, p50=None, p95=None)
    return Durations(count=measured.count, mean=measured.mean, p50=measured.p50, p95=measured.p95)
