"""Queries over held tasks: the database keeps them until they are due, and no broker has them.

A held task is scheduled and was never sent. So nothing but its row says what it is, and a submission can change it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import and_, literal_column, select, update
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.schemas.task import TaskState

HELD: Final = and_(TaskRun.state == literal_column("'scheduled'"), TaskRun.published_at.is_(None))
"""The condition of the partial index `ix_task_runs_held`, word for word: with a parameter it would not be used.

The index begins with the state, which is always the same: otherwise SQLite would take the index of all states, and
read each scheduled task that the broker has.
"""


def is_held(run: TaskRun) -> bool:
    """Whether the database holds this task."""
    return run.state == TaskState.SCHEDULED and run.published_at is None


def any_due(session: Session, now: datetime) -> bool:
    """Whether a held task is due."""
    return session.scalar(select(TaskRun.seq).where(HELD, TaskRun.due_at <= now).limit(1)) is not None


def release(session: Session, now: datetime, *, limit: int) -> int:
    """Put held tasks that are due into the outbox; returns how many. Those that a submission changes now stay."""
    due = select(TaskRun.seq).where(HELD, TaskRun.due_at <= now).order_by(TaskRun.due_at).limit(limit)
    locked = session.scalars(due.with_for_update(skip_locked=True)).all()
    if locked:
        session.execute(update(TaskRun).where(TaskRun.seq.in_(locked)).values(state=TaskState.ACCEPTED))
    return len(locked)
