"""What forecasts need: when the tasks that ended last could have started, did start, and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.schemas.task import TaskState

NEWEST = 2_000
"""Of so many tasks that ended last, those of a queue or a name are looked at: a rare one costs no walk through all."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """A task that ended. `ready`: when it was accepted, or due."""

    name: str
    queue: str
    is_completed: bool
    ready: datetime
    started: datetime
    ended: datetime


def past_runs(session: Session, queue: str, names: Sequence[str], *, since: datetime) -> list[PastRun]:
    """The tasks of a queue, and those with one of these names, among the last that ended since a time."""
    newest = (
        select(TaskRun.id)
        .where(TaskRun.finished_at >= since)
        .order_by(TaskRun.finished_at.desc())
        .limit(NEWEST)
        .subquery()
    )
    columns = (TaskRun.name, TaskRun.queue, TaskRun.state, TaskRun.accepted_at, TaskRun.due_at)
    own = (TaskRun.started_at.is_not(None), or_(TaskRun.queue == queue, TaskRun.name.in_(names)))
    rows = session.execute(
        select(*columns, TaskRun.started_at, TaskRun.finished_at).join(newest, TaskRun.id == newest.c.id).where(*own)
    )
    return [
        PastRun(name, queue, state == TaskState.COMPLETED, max(accepted, due or accepted), started, ended)
        for name, queue, state, accepted, due, started, ended in rows
        if started is not None and ended is not None
    ]


def running(session: Session, queue: str) -> int:
    """The number of tasks of a queue that run."""
    of_queue = (TaskRun.queue == queue, TaskRun.state == TaskState.PROCESSING)
    return session.scalar(select(func.count()).select_from(TaskRun).where(*of_queue)) or 0
