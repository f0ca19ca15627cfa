"""What forecasts need: how many tasks a queue finished in each of the last minutes, and how long tasks ran."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import QueueSample, TaskRun
from laneway.platform.db.queries.durations import Period, between, within
from laneway.schemas.task import TaskState

NEWEST = 5_000
"""Of so many tasks that ended last, those of a name are looked at: a rare name must not cost a walk through all."""


def busy_minutes(session: Session, queue: str, period: Period) -> list[int]:
    """The tasks that ended in each minute of the period at whose end tasks waited."""
    busy = (QueueSample.queue == queue, within(QueueSample.minute, period), QueueSample.waiting > 0)
    return list(session.scalars(select(QueueSample.completed + QueueSample.failed).where(*busy)))


def ended_since(session: Session, queue: str, *, since: datetime) -> int:
    """The number of tasks of a queue that ended since a time."""
    ended = (TaskRun.finished_at >= since, TaskRun.queue == queue, TaskRun.started_at.is_not(None))
    return session.scalar(select(func.count()).select_from(TaskRun).where(*ended)) or 0


def run_seconds(session: Session, names: Sequence[str], *, since: datetime) -> list[float]:
    """How long completed tasks of a name ran, of those that ended last."""
    newest = (
        select(TaskRun.name, TaskRun.state, TaskRun.started_at, TaskRun.finished_at)
        .where(TaskRun.finished_at >= since)
        .order_by(TaskRun.finished_at.desc())
        .limit(NEWEST)
        .subquery()
    )
    columns = newest.c
    own = (columns.name.in_(names), columns.state == TaskState.COMPLETED, columns.started_at.is_not(None))
    durations = select(between(columns.started_at, columns.finished_at)).where(*own)
    return [microseconds / 1_000_000 for microseconds in session.scalars(durations)]
