"""Measuring in the database, alike on SQLite and PostgreSQL: durations in whole microseconds, percentiles by nearest
rank with window functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, String, and_, case, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

TOTAL: Final = "all"
"""The name of everything together."""
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` on, up to but not including `end`."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Measured:
    """Durations of one group, in seconds."""

    times: int
    mean: float
    p50: float
    p95: float


class Microseconds(FunctionElement[int]):
    """A moment as microseconds since 1970: exact, and something that both databases can subtract."""

    type, inherit_cache = BigInteger(), True


class UtcDay(FunctionElement[str]):
    """A moment's day in UTC, as 2026-01-31."""

    type, inherit_cache = String(), True


@compiles(Microseconds, "postgresql")
def _(element: Microseconds, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(EXTRACT(EPOCH FROM {compiler.process(element.clauses, **options)}) * 1000000 AS BIGINT)"


@compiles(Microseconds, "sqlite")
def _(element: Microseconds, compiler: SQLCompiler, **options: Any) -> str:
    moment = compiler.process(element.clauses, **options)  # "2026-01-31 12:00:00.000000", always six places
    # Whole seconds alone: strftime rounds 59.9995 up to the next second.
    seconds = f"CAST(strftime('%s', substr({moment}, 1, 19)) AS INTEGER)"
    return f"({seconds} * 1000000 + CAST(substr({moment}, 21) AS INTEGER))"


@compiles(UtcDay, "postgresql")
def _(element: UtcDay, compiler: SQLCompiler, **options: Any) -> str:
    return f"to_char({compiler.process(element.clauses, **options)} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


@compiles(UtcDay, "sqlite")
def _(element: UtcDay, compiler: SQLCompiler, **options: Any) -> str:
    return f"substr({compiler.process(element.clauses, **options)}, 1, 10)"


def measure(session: Session, durations: Select[str, int]) -> dict[str, Measured]:
    """Number, mean and percentiles of each group of a select of (name, duration); NULLs are left out.

    Nearest rank: of n durations in order the p-th percentile is number ceil(n * p / 100).
    """
    taken = durations.subquery()
    return {row[0]: measured(*row[1:]) for row in session.execute(figures(taken.c.name, duration=taken.c.duration))}


def figures(name: ColumnElement[str], *, duration: ColumnElement[int]) -> Select[str, int, Any, int, int]:
    """Name, number, mean, median and 95th percentile of each group; `measured` reads the last four.

    The p-th percentile is the smallest duration whose share of durations that are no longer reaches p: a division of
    whole numbers is rounded to the same number as the literal that it equals, so that nothing falls off the edge.
    """
    share = func.cume_dist().over(partition_by=name, order_by=duration).label("share")
    ranked = select(name.label("name"), duration.label("duration"), share).where(duration.is_not(None)).subquery()

    def percentile(p: float) -> ColumnElement[int]:
        return func.min(case((ranked.c.share >= p, ranked.c.duration)))

    return select(ranked.c.name, func.count(), func.avg(ranked.c.duration), percentile(0.5), percentile(0.95)).group_by(
        ranked.c.name
    )


def measured(number: int, mean: Any, p50: int, p95: int) -> Measured:
    """What a row of `figures` says."""
    return Measured(number, _seconds(mean), _seconds(p50), _seconds(p95))


def between(start: Any, end: Any) -> ColumnElement[int]:
    """A duration; never below zero, because two machines' clocks wrote the two times."""
    duration = Microseconds(end) - Microseconds(start)
    return case((duration < 0, 0), else_=duration).label("duration")


def within(moment: InstrumentedAttribute[Any], period: Period) -> ColumnElement[bool]:
    """Whether it happened in the period."""
    return and_(moment >= period.start, moment < period.end)


def count_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows of the group it holds for."""
    return func.count(case((condition, 1)))


def _seconds(microseconds: Any) -> float:
    return round(float(microseconds) / _MICROSECONDS, 6)
