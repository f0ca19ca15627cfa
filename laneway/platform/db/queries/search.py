"""Searches tasks, with one filter for lists, dead letters and counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Integer, String, and_, cast, delete, exists, extract, func, or_, select, update
from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.access.bounds import tenant_prefix
from laneway.platform.access.caller import Caller, current_caller
from laneway.platform.db.models import TaskRun, TaskTag
from laneway.platform.db.queries.deletions import note_deletion
from laneway.platform.library_schedules import CANARY
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Selects tasks that the caller may see; a field that is not set selects all, without canaries.

    `states` are those that are shown (`history.task_views.display_state`): a scheduled task that is due is pending.
    `name` also finds the tasks that have another name of the same task (`TaskSpec.aliases`). `since` and `until` limit
    the time of acceptance, `ended_since` and `ended_until` that of the end. `error` is a part of the error's text,
    `text` one of the payload or the error as stored.
    """

    states: tuple[TaskState, ...] = ()
    name: str | None = None
    queue: str | None = None
    queues: tuple[str, ...] = ()
    key: str | None = None
    tag: str | None = None
    batch: str | None = None
    group: str | None = None
    error: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ended_since: datetime | None = None
    ended_until: datetime | None = None
    ids: tuple[str, ...] = ()
    trashed: bool | None = None

    def clauses(self) -> list[ColumnElement[bool]]:
        """The filter as conditions on `TaskRun`."""
        found: list[ColumnElement[bool]] = []
        names = () if self.name is None else registry.names_of(self.name)
        if self.states:
            found.append(_shown_as(self.states, now=clock.now()))
        for many, values in ((TaskRun.name, names), (TaskRun.queue, self.queues), (TaskRun.id, self.ids)):
            if values:
                found.append(many.in_(values))
        for column, value in (
            (TaskRun.queue, self.queue),
            (TaskRun.key, self.key),
            (TaskRun.batch_id, self.batch),
            (TaskRun.error_group, self.group),
        ):
            if value is not None:
                found.append(column == value)
        if self.tag is not None:
            found.append(exists().where(TaskTag.task_id == TaskRun.id, TaskTag.tag == self.tag))
        found += self._texts()
        found += [] if names or self.ids else [TaskRun.name != CANARY]
        found += self._times()
        found += bounds_of(current_caller())
        if self.trashed is not None:
            found.append(TaskRun.trashed_at.is_not(None) if self.trashed else TaskRun.trashed_at.is_(None))
        return found

    def _times(self) -> Iterator[ColumnElement[bool]]:
        for moment, since, until in (
            (TaskRun.accepted_at, self.since, self.until),
            (TaskRun.finished_at, self.ended_since, self.ended_until),
        ):
            if since is not None:
                yield moment >= since
            if until is not None:
                yield moment < until

    def _texts(self) -> Iterator[ColumnElement[bool]]:
        for part, texts in ((self.error, (TaskRun.error,)), (self.text, _TEXTS)):
            if part is not None:
                yield or_(*(text.icontains(part, autoescape=True) for text in texts))


def _shown_as(states: tuple[TaskState, ...], *, now: datetime) -> ColumnElement[bool]:
    """The tasks that are shown in one of these states."""
    pending, scheduled = TaskRun.state == TaskState.PENDING, TaskRun.state == TaskState.SCHEDULED
    is_unsent, is_due = TaskRun.published_at.is_(None), TaskRun.due_at <= now
    parts = {
        TaskState.ACCEPTED: (or_(TaskRun.state == TaskState.ACCEPTED, and_(pending, is_unsent)),),
        TaskState.PENDING: (and_(pending, ~is_unsent), and_(scheduled, is_due)),
        TaskState.SCHEDULED: (and_(scheduled, or_(TaskRun.due_at.is_(None), ~is_due)),),
    }
    if parts.keys() <= set(states) or parts.keys().isdisjoint(states):
        return TaskRun.state.in_(states)
    others = tuple(state for state in states if state not in parts)
    shown = [part for state in states if state in parts for part in parts[state]]
    return or_(*shown, TaskRun.state.in_(others)) if others else or_(*shown)


_TEXTS = (cast(TaskRun.payload, String), TaskRun.error)


def bounds_of(caller: Caller) -> Iterator[ColumnElement[bool]]:
    """Conditions that keep a bound caller within what is its own; see `laneway.platform.access.bounds`."""
    if caller.tenant is not None:
        prefix = tenant_prefix(caller.tenant)
        yield func.substr(TaskRun.id, 1, len(prefix)) == prefix
    if caller.queues is not None:
        yield TaskRun.queue.in_(caller.queues)
    if caller.names is not None:
        yield TaskRun.name.in_(caller.names)


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


def page(session: Session, filters: Filter, *, before: int | None = None, limit: int = 50) -> Sequence[TaskRun]:
    """A page of the selected tasks, newest first. `before`: the `seq` of the last task of the previous page."""
    statement = select(TaskRun).where(*filters.clauses())
    if before is not None:
        statement = statement.where(TaskRun.seq < before)
    return session.scalars(statement.order_by(TaskRun.seq.desc()).limit(limit)).all()


def count(session: Session, filters: Filter) -> int:
    """The number of selected tasks."""
    return session.scalar(select(func.count()).select_from(TaskRun).where(*filters.clauses())) or 0


def counts_by_state(session: Session, filters: Filter) -> dict[TaskState, int]:
    """State → number of selected tasks."""
    rows = session.execute(select(TaskRun.state, func.count()).where(*filters.clauses()).group_by(TaskRun.state))
    return {TaskState(state): number for state, number in rows}


def groups(session: Session, filters: Filter, *, limit: int = 50) -> list[Group]:
    """The selected tasks grouped by error, the largest group first."""
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
        .where(*filters.clauses())
        .group_by(TaskRun.error_group, TaskRun.name)
        .order_by(number.desc())
        .limit(limit)
    )
    return [
        Group(group or "", name, kind or "", (error or "")[:500], count, first, last)
        for group, name, kind, error, count, first, last in session.execute(statement)
    ]


def by_hour(
    session: Session, filters: Filter, *, of: Sequence[Group], since: datetime, hours: int
) -> dict[tuple[str, str], list[int]]:
    """Group and name → how many of the selected tasks ended in each of so many hours since a time.

    `of`: the groups that are counted.
    """
    shown = TaskRun.error_group.in_({each.group for each in of})
    if any(not each.group for each in of):
        shown = or_(shown, TaskRun.error_group.is_(None))
    end, began = since + timedelta(hours=hours), int(since.timestamp())
    hour = (cast(extract("epoch", TaskRun.finished_at), Integer) - began) // 3600
    statement = (
        select(TaskRun.error_group, TaskRun.name, hour, func.count())
        .where(*filters.clauses(), shown, TaskRun.finished_at >= since, TaskRun.finished_at < end)
        .group_by(TaskRun.error_group, TaskRun.name, hour)
    )
    found: dict[tuple[str, str], list[int]] = {}
    for group, name, number, count in session.execute(statement):
        found.setdefault((group or "", name), [0] * hours)[min(number, hours - 1)] += count
    return found


def trash(session: Session, ids: Sequence[str], *, at: datetime | None) -> set[str]:
    """Put these tasks into the trash at this time; with None, take them out of it. Returns the ids that exist."""
    locked = select(TaskRun.id).where(TaskRun.id.in_(ids)).order_by(TaskRun.seq).with_for_update()
    found = session.scalars(locked).all()
    rows = update(TaskRun).where(TaskRun.id.in_(found)).values(trashed_at=at)
    session.execute(rows, execution_options={"synchronize_session": False})
    return set(found)


def delete_trashed(session: Session, *, before: datetime, limit: int) -> int:
    """Delete tasks that were put into the trash before `before`; returns how many."""
    old = and_(TaskRun.trashed_at.is_not(None), TaskRun.trashed_at < before)
    return _delete(session, session.scalars(select(TaskRun.id).where(old).limit(limit)).all())


def delete_beyond(session: Session, filters: Filter, *, keep_newest: int, limit: int) -> int:
    """Delete the selected tasks except the newest `keep_newest`, oldest first, at most `limit`. Returns how many."""
    beyond = select(TaskRun.seq).where(*filters.clauses()).order_by(TaskRun.seq.desc()).offset(keep_newest).limit(1)
    newest_beyond = session.scalar(beyond)
    if newest_beyond is None:
        return 0
    old = select(TaskRun.id).where(*filters.clauses(), TaskRun.seq <= newest_beyond).order_by(TaskRun.seq).limit(limit)
    return _delete(session, session.scalars(old).all())


def _delete(session: Session, ids: Sequence[str]) -> int:
    if ids:
        note_deletion(session, TaskRun.id.in_(ids))
        rows = delete(TaskRun).where(TaskRun.id.in_(ids))
        session.execute(rows.execution_options(synchronize_session=False))
    return len(ids)
