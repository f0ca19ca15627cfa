"""Queries about what goes wrong: failures, new groups of errors, and tasks that have waited for long."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from laneway.platform.db.models import TaskRun
from laneway.schemas.task import FAILURES, TaskState


class ErrorGroup(NamedTuple):
    """Tasks of one name that failed the same way."""

    group: str
    name: str
    error_type: str
    number: int


class Waiting(NamedTuple):
    """The tasks of one queue that wait: how many there are, and since when the oldest does."""

    queue: str
    number: int
    since: datetime


def count_failures(session: Session, *, since: datetime) -> dict[str, int]:
    """Task name → number of tasks that failed for good since `since`."""
    rows = session.execute(
        select(TaskRun.name, func.count())
        .where(TaskRun.finished_at >= since, TaskRun.state.in_(FAILURES))
        .group_by(TaskRun.name)
    )
    return {row[0]: row[1] for row in rows}


def count_dead_letters(session: Session, *, since: datetime) -> dict[str, int]:
    """Queue → number of its dead letters since `since` that nobody has discarded."""
    dead = (TaskRun.finished_at >= since, TaskRun.state == TaskState.DEAD_LETTER, TaskRun.trashed_at.is_(None))
    rows = session.execute(select(TaskRun.queue, func.count()).where(*dead).group_by(TaskRun.queue))
    return {row[0]: row[1] for row in rows}


def new_error_groups(session: Session, *, since: datetime, limit: int) -> list[ErrorGroup]:
    """The groups of errors of which no failure before `since` is kept, the largest first."""
    earlier = aliased(TaskRun)
    known = exists().where(
        earlier.error_group == TaskRun.error_group, earlier.state.in_(FAILURES), earlier.finished_at < since
    )
    number = func.count()
    statement = (
        select(TaskRun.error_group, TaskRun.name, func.max(TaskRun.error_type), number)
        .where(TaskRun.finished_at >= since, TaskRun.state.in_(FAILURES), TaskRun.error_group.is_not(None), ~known)
        .group_by(TaskRun.error_group, TaskRun.name)
        .order_by(number.desc(), TaskRun.name)
        .limit(limit)
    )
    return [ErrorGroup(group or "", name, kind or "", count) for group, name, kind, count in session.execute(statement)]


def waiting_longest(session: Session, *, now: datetime) -> list[Waiting]:
    """For each queue, the tasks that are due and have not started."""
    due = or_(TaskRun.state == TaskState.PENDING, and_(TaskRun.state == TaskState.SCHEDULED, TaskRun.due_at <= now))
    since = func.min(func.coalesce(TaskRun.due_at, TaskRun.published_at, TaskRun.accepted_at))
    rows = session.execute(select(TaskRun.queue, func.count(), since).where(due).group_by(TaskRun.queue))
    return [Waiting(*row) for row in rows]


def unsent(session: Session, *, now: datetime) -> list[Waiting]:
    """For each queue, the accepted tasks that the broker does not have."""
    since = func.min(TaskRun.accepted_at)
    statement = select(TaskRun.queue, func.count(), since).where(TaskRun.state == TaskState.ACCEPTED)
    return [Waiting(*row) for row in session.execute(statement.group_by(TaskRun.queue)) if row[2] <= now]
