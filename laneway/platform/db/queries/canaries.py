"""Queries over canaries: small tasks that a schedule sends through each queue, to see how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, delete, select
from sqlalchemy.orm import Session, load_only

from laneway.platform.db.models import ScheduleFiring, StoredSchedule, TaskRun
from laneway.platform.db.queries.retention import delete_batch
from laneway.platform.library_schedules import CANARY, canary_key
from laneway.schemas.task import FINISHED

MOST: Final = 2000
"""Canaries that are read, newest first. There are a few for each queue."""
_READ: Final = (TaskRun.seq, TaskRun.id, TaskRun.queue, TaskRun.state)
_TIMES: Final = (TaskRun.accepted_at, TaskRun.started_at, TaskRun.finished_at)


def latest(session: Session) -> Sequence[TaskRun]:
    """The canaries of all queues, newest first."""
    found = select(TaskRun).options(load_only(*_READ, *_TIMES)).where(TaskRun.name == CANARY)
    return session.scalars(found.order_by(TaskRun.seq.desc()).limit(MOST)).all()


def watched(session: Session, queues: Sequence[str]) -> set[str]:
    """Those of the queues whose schedule of canaries is in force."""
    keys = {canary_key(queue): queue for queue in queues}
    is_active = and_(StoredSchedule.paused_at.is_(None), StoredSchedule.removed_at.is_(None))
    found = select(StoredSchedule.key).where(StoredSchedule.key.in_(keys), is_active)
    return {keys[key] for key in session.scalars(found)}


def delete_ended(session: Session, queue: str, *, before: datetime, limit: int) -> int:
    """Delete canaries of a queue that ended before a time, and their firings; returns how many canaries."""
    ended = and_(TaskRun.name == CANARY, TaskRun.queue == queue, TaskRun.state.in_(FINISHED))
    firings = (ScheduleFiring.schedule == canary_key(queue), ScheduleFiring.due_at < before)
    removed: Any = delete(ScheduleFiring).where(*firings)
    session.execute(removed.execution_options(synchronize_session=False))
    return delete_batch(session, TaskRun.seq, and_(ended, TaskRun.finished_at < before), limit)
