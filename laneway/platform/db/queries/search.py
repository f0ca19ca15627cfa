"""Finding tasks: one filter for lists, dead letters and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, exists, func, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun, TaskTag
from laneway.platform.schemas.task import TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which tasks; what is not given does not matter. Times are of acceptance; `error` is part of the error's text."""

    states: tuple[TaskState, ...] = ()
    name: str | None = None
    queue: str | None = None
    key: str | None = None
    tag: str | None = None
    group: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[str, ...] = ()
    trashed: bool | None = None

    def clauses(self) -> list[ColumnElement[bool]]:
        """As conditions on `TaskRun`."""
        found: list[ColumnElement[bool]] = []
        if self.states:
            found.append(TaskRun.state.in_(self.states))
        for column, value in (
            (TaskRun.name, self.name),
            (TaskRun.queue, self.queue),
            (TaskRun.key, self.key),
            (TaskRun.error_group, self.group),
        ):
            if value is not None:
                found.append(column == value)
        if self.tag is not None:
            found.append(exists().where(TaskTag.task_id == TaskRun.id, TaskTag.tag == self.tag))
        if self.error is not None:
            found.append(TaskRun.error.icontains(self.error, autoescape=True))
        if self.since is not None:
            found.append(TaskRun.accepted_at >= self.since)
        if self.until is not None:
            found.append(TaskRun.accepted_at < self.until)
        if self.ids:
            found.append(TaskRun.id.in_(self.ids))
        if self.trashed is not None:
            found.append(TaskRun.trashed_at.is_not(None) if self.trashed else TaskRun.trashed_at.is_(None))
        return found


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that failed the same way."""

    group: str
    name: str
    error_type: str
    error: str
    count: int
    first_at: datetime | None
    last_at: datetime | None


def page(session: Session, which: Filter, *, before: int | None = None, limit: int = 50) -> Sequence[TaskRun]:
    """Some of them, newest first; `before`: the `seq` at which the last page ended."""
    statement = select(TaskRun).where(*which.clauses())
    if before is not None:
        statement = statement.where(TaskRun.seq < before)
    return session.scalars(statement.order_by(TaskRun.seq.desc()).limit(limit)).all()


def count(session: Session, which: Filter) -> int:
    """How many there are."""
    return session.scalar(select(func.count()).select_from(TaskRun).where(*which.clauses())) or 0


def counts_by_state(session: Session, which: Filter) -> dict[TaskState, int]:
    """State → how many."""
    rows = session.execute(select(TaskRun.state, func.count()).where(*which.clauses()).group_by(TaskRun.state))
    return {TaskState(state): number for state, number in rows}


def groups(session: Session, which: Filter, *, limit: int = 50) -> list[Group]:
    """What failed the same way, the largest group first."""
    number = func.count()
    statement = (
        select(
            TaskRun.error_group,
            TaskRun.name,
            func.max(TaskRun.error_type),
            func.max(TaskRun.error),
            number,
            func.min(TaskRun.finished_at),
            func.max(TaskRun.finished_at),
        )
        .where(*which.clauses())
        .group_by(TaskRun.error_group, TaskRun.name)
        .order_by(number.desc())
        .limit(limit)
    )
    return [
        Group(group or "", name, kind or "", (error or "")[:500], many, first, last)
        for group, name, kind, error, many, first, last in session.execute(statement)
    ]


def trash(session: Session, ids: Sequence[str], *, at: datetime | None) -> None:
    """Put these into the trash, or take them out of it."""
    for run in session.scalars(select(TaskRun).where(TaskRun.id.in_(ids)).with_for_update()):
        run.trashed_at = at


def delete_trashed(session: Session, *, before: datetime, limit: int) -> int:
    """Delete what has been in the trash since before then."""
    old = and_(TaskRun.trashed_at.is_not(None), TaskRun.trashed_at < before)
    return _delete(session, session.scalars(select(TaskRun.id).where(old).limit(limit)).all())


def delete_beyond(session: Session, which: Filter, *, most: int, limit: int) -> int:
    """Delete the oldest of these tasks beyond `most`."""
    newest = select(TaskRun.seq).where(*which.clauses()).order_by(TaskRun.seq.desc()).offset(most).limit(1)
    edge = session.scalar(newest)
    if edge is None:
        return 0
    old = select(TaskRun.id).where(*which.clauses(), TaskRun.seq <= edge).order_by(TaskRun.seq).limit(limit)
    return _delete(session, session.scalars(old).all())


def _delete(session: Session, ids: Sequence[str]) -> int:
    if ids:
        rows = delete(TaskRun).where(TaskRun.id.in_(ids))
        session.execute(rows.execution_options(synchronize_session=False))
    return len(ids)
