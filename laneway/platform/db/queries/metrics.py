"""Queries for the metrics. Each has an index and a limit, so that its cost does not grow with the history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, func, literal, select, union_all
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.schemas.task import TaskState


def outbox(session: Session, *, limit: int) -> dict[str, tuple[int, datetime]]:
    """Queue → number of tasks in the outbox, and when the first of them was accepted; of at most `limit` tasks."""
    rows = select(TaskRun.queue, TaskRun.accepted_at).where(TaskRun.state == TaskState.ACCEPTED).limit(limit).subquery()
    grouped = select(rows.c.queue, func.count(), func.min(rows.c.accepted_at)).group_by(rows.c.queue)
    return {queue: (number, first) for queue, number, first in session.execute(grouped)}


def dead_letters(session: Session, queues: Sequence[str], *, limit: int) -> dict[str, int]:
    """Queue → number of dead letters, without those in the trash; at most `limit` of each queue are counted."""
    if not queues:
        return {}
    counted: list[Select[str, int]] = []
    for queue in queues:
        dead = (TaskRun.queue == queue, TaskRun.state == TaskState.DEAD_LETTER, TaskRun.trashed_at.is_(None))
        rows = select(TaskRun.seq).where(*dead).limit(limit).subquery()
        counted.append(select(literal(queue), func.count()).select_from(rows))
    found: dict[str, int] = {}
    for queue, number in session.execute(union_all(*counted)):
        found[queue] = number
    return found
