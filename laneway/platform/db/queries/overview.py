"""Queries of the overview: sizes that the broker does not know, what went through the queues, samples of minutes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from laneway.platform.db.models import QueueSample, TaskRun
from laneway.platform.db.queries.durations import Microseconds, Period, within
from laneway.platform.db.queries.retention import delete_batch
from laneway.schemas.task import FAILURES, TaskState

_TABLE = cast("Table", QueueSample.__table__)
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def accepted(session: Session, period: Period) -> dict[str, int]:
    """Queue → number of tasks that were accepted in the period."""
    statement = select(TaskRun.queue, func.count()).where(within(TaskRun.accepted_at, period)).group_by(TaskRun.queue)
    return {row[0]: row[1] for row in session.execute(statement)}


def ended(session: Session, period: Period) -> dict[str, tuple[int, int]]:
    """Queue → numbers of tasks that were completed, and that failed for good, in the period."""
    statement = (
        select(TaskRun.queue, TaskRun.state, func.count())
        .where(within(TaskRun.finished_at, period))
        .group_by(TaskRun.queue, TaskRun.state)
    )
    found: dict[str, tuple[int, int]] = {}
    for queue, state, number in session.execute(statement):
        completed, failed = found.get(queue, (0, 0))
        if state == TaskState.COMPLETED:
            completed += number
        elif state in FAILURES:
            failed += number
        found[queue] = (completed, failed)
    return found


def count_in(session: Session, states: Sequence[TaskState]) -> dict[tuple[str, str], int]:
    """(queue, state) → number of tasks in one of these states; discarded dead letters are not counted."""
    statement = (
        select(TaskRun.queue, TaskRun.state, func.count())
        .where(TaskRun.state.in_(states), TaskRun.trashed_at.is_(None))
        .group_by(TaskRun.queue, TaskRun.state)
    )
    return {(queue, state): number for queue, state, number in session.execute(statement)}


def add_samples(session: Session, samples: Sequence[dict[str, Any]]) -> None:
    """Store samples; of a minute and queue that has one already, nothing is changed."""
    if samples:
        connection = session.connection()
        session.execute(_INSERT[connection.dialect.name](_TABLE).on_conflict_do_nothing(), list(samples))


def newest_minute(session: Session) -> datetime | None:
    """The newest minute that has a sample."""
    return session.scalar(select(func.max(QueueSample.minute)))


def samples_at(session: Session, period: Period) -> Sequence[QueueSample]:
    """The samples of the newest minute within a period, of each queue."""
    newest = select(func.max(QueueSample.minute)).where(within(QueueSample.minute, period)).scalar_subquery()
    return session.scalars(select(QueueSample).where(QueueSample.minute == newest).order_by(QueueSample.queue)).all()


def series(session: Session, period: Period, *, bucket: int) -> Sequence[tuple[int, int, int, int, int, int]]:
    """Per bucket of so many seconds: its start (seconds since 1970), accepted, completed, failed, waiting, running.

    Waiting and running are the largest sums over the queues of a minute within the bucket. A bucket without samples is
    left out.
    """
    second = Microseconds(QueueSample.minute) / 1_000_000
    minutes = (
        select(
            (func.floor(second / bucket) * bucket).label("start"),
            func.sum(QueueSample.accepted).label("accepted"),
            func.sum(QueueSample.completed).label("completed"),
            func.sum(QueueSample.failed).label("failed"),
            func.sum(QueueSample.waiting).label("waiting"),
            func.sum(QueueSample.running).label("running"),
        )
        .where(within(QueueSample.minute, period))
        .group_by(QueueSample.minute)
        .subquery()
    )
    columns = minutes.c
    statement = (
        select(
            columns.start,
            func.sum(columns.accepted),
            func.sum(columns.completed),
            func.sum(columns.failed),
            func.max(columns.waiting),
            func.max(columns.running),
        )
        .group_by(columns.start)
        .order_by(columns.start)
    )
    return [cast("Any", tuple(int(value) for value in row)) for row in session.execute(statement)]


def canary_series(session: Session, period: Period, *, bucket: int) -> list[tuple[str, int, int]]:
    """The queue, the start of a bucket of so many seconds (seconds since 1970), and the slowest canary in it (ms)."""
    start = func.floor(Microseconds(QueueSample.minute) / 1_000_000 / bucket) * bucket
    statement = (
        select(QueueSample.queue, start, func.max(QueueSample.canary_ms))
        .where(within(QueueSample.minute, period), QueueSample.canary_ms.is_not(None))
        .group_by(QueueSample.queue, start)
    )
    return [(queue, int(at), slowest) for queue, at, slowest in session.execute(statement) if slowest is not None]


def delete_samples(session: Session, *, before: datetime, limit: int) -> int:
    """Delete samples of minutes before `before`."""
    return delete_batch(session, QueueSample.id, QueueSample.minute < before, limit)
