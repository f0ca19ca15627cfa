"""Measures durations in the database, with equal results on SQLite and PostgreSQL.

Durations are whole microseconds. Percentiles are computed by nearest rank, with window functions.
"""

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
"""The name of the group that contains everything."""
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Period:
    """The time from `start`, inclusive, to `end`, exclusive."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Measured:
    """The durations of one group: their number; mean, median and 95th percentile in seconds."""

    count: int
    mean: float
    p50: float
    p95: float


class Microseconds(FunctionElement[int]):
    """A time as microseconds since 1970: exact, and a number that both databases can subtract."""

    type, inherit_cache = BigInteger(), True


class UtcDay(FunctionElement[str]):
    """The day of a time in UTC, as 2026-01-31."""

    type, inherit_cache = String(), True


@compiles(Microseconds, "postgresql")
def _(element: Microseconds, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(EXTRACT(EPOCH FROM {compiler.process(element.clauses, **options)}) * 1000000 AS BIGINT)"


@compiles(Microseconds, "sqlite")
def _(element: Microseconds, compiler: SQLCompiler, **options: Any) -> str:
    moment = compiler.process(element.clauses, **options)  # "2026-01-31 12:00:00.000000", always six decimals
    # Without the fraction, because strftime rounds 59.9995 up to the next second.
    seconds = f"CAST(strftime('%s', substr({moment}, 1, 19)) AS INTEGER)"
    return f"({seconds} * 1000000 + CAST(substr({moment}, 21) AS INTEGER))"


@compiles(UtcDay, "postgresql")
def _(element: UtcDay, compiler: SQLCompiler, **options: Any) -> str:
    return f"to_char({compiler.process(element.clauses, **options)} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


@compiles(UtcDay, "sqlite")
def _(element: UtcDay, compiler: SQLCompiler, **options: Any) -> str:
    return f"substr({compiler.process(element.clauses, **options)}, 1, 10)"


def measure(session: Session, durations: Select[str, int]) -> dict[str, Measured]:
    """Execute a select of (name, duration in microseconds); return name → durations. NULLs are left out.

    Nearest rank: of n sorted durations, the p-th percentile is the one with the number ceil(n * p / 100).
    """
    rows = durations.subquery()
    statement = select_measures(rows.c.name, duration=rows.c.duration)
    return {row[0]: measured(*row[1:]) for row in session.execute(statement)}


def select_measures(name: ColumnElement[str], *, duration: ColumnElement[int]) -> Select[str, int, Any, int, int]:
    """A select of name, count, mean, median and 95th percentile of each group. `measured` takes the last four.

    The p-th percentile is the smallest duration whose cumulative share reaches p. The comparison is exact at the edge:
    the quotient of two whole numbers is rounded to the same float as the literal that it equals.
    """
    share = func.cume_dist().over(partition_by=name, order_by=duration).label("share")
    ranked = select(name.label("name"), duration.label("duration"), share).where(duration.is_not(None)).subquery()

    def percentile(p: float) -> ColumnElement[int]:
        return func.min(case((ranked.c.share >= p, ranked.c.duration)))

    return select(ranked.c.name, func.count(), func.avg(ranked.c.duration), percentile(0.5), percentile(0.95)).group_by(
        ranked.c.name
    )


def measured(count: int, mean: Any, p50: int, p95: int) -> Measured:
    """The durations of one row of `select_measures`, in seconds."""
    return Measured(count, _seconds(mean), _seconds(p50), _seconds(p95))


def between(start: Any, end: Any) -> ColumnElement[int]:
    """Microseconds from `start` to `end`, at least 0: the clocks of two machines may have written the two times."""
    duration = Microseconds(end) - Microseconds(start)
    return case((duration < 0, 0), else_=duration).label("duration")


def within(moment: InstrumentedAttribute[Any], period: Period) -> ColumnElement[bool]:
    """A condition: the time is in the period."""
    return and_(moment >= period.start, moment < period.end)


def count_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """The number of rows of the group for which the condition is true."""
    return func.count(case((condition, 1)))


def _seconds(microseconds: Any) -> float:
    return round(float(microseconds) / _MICROSECONDS, 6)
