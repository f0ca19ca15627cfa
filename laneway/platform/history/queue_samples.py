"""Keeps what the queues looked like, minute by minute: for charts, and to look back at any minute of the last week.

Every process of the API and the worker that holds the fleet's lease may store the sample of a minute. Whoever comes
first stores it, and the others change nothing. A minute in which none of them ran has no sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from laneway.platform import clock
from laneway.platform.db.models import QueueSample
from laneway.platform.db.queries import overview as queries
from laneway.platform.db.queries.durations import Period
from laneway.platform.db.session import Database
from laneway.platform.history.overview import Overview, Overviews, QueueOverview, make_overview
from laneway.platform.probes import canaries
from laneway.platform.queues import Lane
from laneway.platform.queues import queues as declared

MINUTE: Final = timedelta(minutes=1)
LOOK_BACK: Final = timedelta(days=7)
"""How far back samples are shown."""
NEAR: Final = timedelta(minutes=3)
"""A minute without a sample is shown by the last one before it, if that is not older than this."""
POINTS: Final = 120
"""About as many points has a chart."""
STORED: Final = (
    *("waiting", "running", "scheduled", "held", "dead", "oldest_seconds", "workers", "paused"),
    *("accepted", "completed", "failed"),
)
"""The figures of a queue that a sample keeps."""


@dataclass(frozen=True, slots=True)
class Series:
    """The points of a chart. `at`: seconds since 1970. Flows are tasks a minute; None where there is no sample."""

    at: list[int]
    accepted: list[float | None]
    completed: list[float | None]
    failed: list[float | None]
    waiting: list[int | None]
    running: list[int | None]


class QueueSamples:
    """Stores and reads samples."""

    def __init__(self, database: Database, overviews: Overviews) -> None:
        self._database, self._overviews = database, overviews
        self._taken: datetime | None = None

    def take_if_due(self) -> None:
        """Store the sample of the last full minute, if this process has not seen it yet. Raises DatabaseUnavailable."""
        minute = clock.now().replace(second=0, microsecond=0)
        if self._taken == minute:
            return
        with self._database.reading() as session:
            known = queries.newest_minute(session) == minute
        if not known:
            found = self._overviews.now(period=MINUTE, until=minute)
            with self._database.transaction() as session:
                latency = {each.queue: each.latency_ms for each in canaries.read(session, now=clock.now())}
                queries.add_samples(session, [_row(each, minute, latency.get(each.name)) for each in found.queues])
        self._taken = minute

    def at(self, moment: datetime) -> Overview | None:
        """What the queues looked like at a moment; None if no sample is near."""
        with self._database.reading() as session:
            rows = queries.samples_at(session, Period(moment - NEAR, moment + timedelta(microseconds=1)))
        if not rows:
            return None
        workers = max(row.workers for row in rows)
        return make_overview(
            _ordered([_overview(row) for row in rows]), at=rows[0].minute, period=60.0, live_workers=workers
        )

    def canaries(self, length: timedelta) -> dict[str, list[int | None]]:
        """Queue → the slowest canary (ms) in each part of the last `length`; None where there is no sample."""
        now = clock.now()
        bucket = _bucket(length)
        with self._database.reading() as session:
            rows = queries.canary_series(session, Period(now - length, now), bucket=bucket)
        by_queue: dict[str, dict[int, int]] = {}
        for queue, at, slowest in rows:
            by_queue.setdefault(queue, {})[at] = slowest
        starts = _starts(start=int((now - length).timestamp()), end=int(now.timestamp()), bucket=bucket)
        return {queue: [found.get(at) for at in starts] for queue, found in by_queue.items()}

    def series(self, length: timedelta) -> Series:
        """The points of a chart of the last `length`."""
        now = clock.now()
        bucket = _bucket(length)
        with self._database.reading() as session:
            rows = queries.series(session, Period(now - length, now), bucket=bucket)
        return _series(rows, start=int((now - length).timestamp()), end=int(now.timestamp()), bucket=bucket)


def _row(queue: QueueOverview, minute: datetime, canary_ms: int | None) -> dict[str, Any]:
    figures = {name: getattr(queue, name) for name in STORED}
    return {"queue": queue.name[:64], "minute": minute, "canary_ms": canary_ms, **figures}


def _overview(row: QueueSample) -> QueueOverview:
    figures: dict[str, Any] = {name: getattr(row, name) for name in STORED}
    return QueueOverview(name=row.queue, lane=declared.get(row.queue, Lane.LOW), **figures)


def _ordered(queues: Sequence[QueueOverview]) -> list[QueueOverview]:
    """In the order of declaration."""
    order = {name: number for number, name in enumerate(declared)}
    return sorted(queues, key=lambda queue: (order.get(queue.name, len(order)), queue.name))


def _bucket(length: timedelta) -> int:
    """The seconds of one point of a chart."""
    return max(60, int(length.total_seconds() / POINTS / 60) * 60)


def _starts(*, start: int, end: int, bucket: int) -> range:
    return range(start - start % bucket, end, bucket)


def _series(rows: Sequence[tuple[int, ...]], *, start: int, end: int, bucket: int) -> Series:
    """Every bucket between two times; a bucket without samples is a gap."""
    by_start = {row[0]: row for row in rows}
    series = Series([], [], [], [], [], [])
    minutes = bucket / 60
    for at in _starts(start=start, end=end, bucket=bucket):
        row = by_start.get(at)
        series.at.append(at)
        for number, flow in enumerate((series.accepted, series.completed, series.failed), start=1):
            flow.append(round(row[number] / minutes, 2) if row else None)
        series.waiting.append(row[4] if row else None)
        series.running.append(row[5] if row else None)
    return series


def minute_of(moment: datetime) -> datetime:
    """The full minute at or before a moment, in UTC."""
    return moment.astimezone(UTC).replace(second=0, microsecond=0)
