"""Queries of the audit: how tasks ended. Payloads and results, which may be large, are not read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskEvent, TaskRun


class Ended(NamedTuple):
    """How and when a task ended."""

    id: str
    state: str
    started_at: datetime | None
    finished_at: datetime
    seq: int


def ended(
    session: Session, *, since: datetime | None, before: datetime, after: Ended | None, limit: int
) -> list[Ended]:
    """Tasks that ended in [`since`, `before`), ordered by their end. `after`: the last task of the previous page."""
    statement, start = _ends().where(TaskRun.finished_at < before), after.finished_at if after else since
    if start is not None:
        statement = statement.where(TaskRun.finished_at >= start)  # uses the index; the next condition cannot
    if after is not None:
        same = and_(TaskRun.finished_at == after.finished_at, TaskRun.seq > after.seq)
        statement = statement.where(or_(TaskRun.finished_at > after.finished_at, same))
    rows = session.execute(statement.order_by(TaskRun.finished_at, TaskRun.seq).limit(limit))
    return [Ended(*row) for row in rows]


def still_ended(session: Session, ids: Sequence[str]) -> set[Ended]:
    """The ends of these tasks as they are now, without the tasks that have not ended."""
    return {Ended(*row) for row in session.execute(_ends().where(TaskRun.id.in_(ids)))}


def known(session: Session, ids: Sequence[str]) -> set[str]:
    """Return the ids that belong to a task."""
    return set(session.scalars(select(TaskRun.id).where(TaskRun.id.in_(ids))))


def submitted(session: Session, ids: Sequence[str]) -> set[str]:
    """Return the ids of tasks that the task manager accepted. Only the task manager records the event `accepted`."""
    statement = select(TaskEvent.task_id).where(TaskEvent.task_id.in_(ids), TaskEvent.kind == "accepted")
    return set(session.scalars(statement))


def _ends() -> Select[str, str, datetime | None, datetime | None, int]:
    """Select all ended tasks: only they have `finished_at`. A condition on `state` would make SQLite sort all rows."""
    columns = (TaskRun.id, TaskRun.state, TaskRun.started_at, TaskRun.finished_at, TaskRun.seq)
    return select(*columns).where(TaskRun.finished_at.is_not(None))
