"""Reads the events of all tasks in the order of their ids, so that none is skipped.

On PostgreSQL transactions commit in another order than that of the ids of their events: an event may become visible
after one with a higher id. A reader that only remembers the highest id would skip it. So a trigger of the table lets
each transaction, before it gets its first id, take a shared lock whose number is the highest id that exists; all its
ids are above that. `settled` returns the id up to which no transaction can add an event any more. It reads the highest
id first and the locks after that: a transaction with a lower id has either taken its lock by then, or it has ended.

SQLite has one writer at a time, which commits before the next one gets an id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.orm import Session

from laneway.engine import EventKind
from laneway.platform.access.bounds import covers
from laneway.platform.access.caller import Caller
from laneway.platform.db.models import TaskEvent, TaskRun, TaskTag, WorkflowStepRun
from laneway.platform.db.queries.event_marks import DELETED, NEWEST, mark
from laneway.platform.db.queries.search import bounds_of
from laneway.platform.db.queries.task_events import newest_event
from laneway.platform.registry import registry

_OLDEST_WRITER: Final = text(
    "SELECT min(((classid::bigint << 32) | objid::bigint) & 281474976710655) FROM pg_locks"
    " WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid::bigint >> 16 = 'task_events'::regclass::oid::bigint & 32767"
)
_LAST_GIVEN: Final = text("SELECT pg_sequence_last_value(pg_get_serial_sequence('task_events', 'seq')::regclass)")


@dataclass(frozen=True, slots=True)
class TaskOfEvent:
    """What a feed says of the task of an event."""

    name: str
    queue: str
    tags: list[str]
    workflow: str | None
    batch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Selects the events of a feed; a field that is not set selects all. `caller` sees what is its own.

    `matches` and `clauses` select the same.
    """

    caller: Caller
    queue: str | None = None
    name: str | None = None
    tag: str | None = None
    workflow: str | None = None
    batch: str | None = None
    kinds: tuple[str, ...] = ()
    without_names: frozenset[str] = frozenset()
    """Names of tasks whose events are left out."""
    names: frozenset[str] = field(init=False)
    """All names of the same task."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(registry.names_of(self.name) if self.name else ()))

    def matches(self, event: TaskEvent, task: TaskOfEvent) -> bool:
        """Whether the feed has this event. It has the output of tasks only if it asks for that kind."""
        return (
            (event.kind in self.kinds if self.kinds else event.kind != EventKind.OUTPUT)
            and (self.queue is None or task.queue == self.queue)
            and (self.name is None or task.name in self.names)
            and task.name not in self.without_names
            and (self.tag is None or self.tag in task.tags)
            and (self.workflow is None or task.workflow == self.workflow)
            and (self.batch is None or task.batch == self.batch)
            and covers(self.caller, event.task_id, name=task.name, queue=task.queue)
        )

    def clauses(self) -> list[ColumnElement[bool]]:
        """The same as conditions on `TaskEvent` and `TaskRun`."""
        kinds = TaskEvent.kind.in_(self.kinds) if self.kinds else TaskEvent.kind != EventKind.OUTPUT.value
        clauses = [kinds, *bounds_of(self.caller)]
        if self.queue is not None:
            clauses.append(TaskRun.queue == self.queue)
        if self.name is not None:
            clauses.append(TaskRun.name.in_(self.names))
        if self.without_names:
            clauses.append(TaskRun.name.not_in(self.without_names))
        if self.tag is not None:
            clauses.append(select(TaskTag).where(TaskTag.task_id == TaskRun.id, TaskTag.tag == self.tag).exists())
        if self.workflow is not None:
            clauses.append(TaskRun.id.in_(select(WorkflowStepRun.task_id).where(_of_run(self.workflow))))
        if self.batch is not None:
            clauses.append(TaskRun.batch_id == self.batch)
        return clauses


def settled(session: Session) -> int:
    """The id up to which every event is visible that there will ever be."""
    newest = max(newest_event(session), mark(session, NEWEST))
    if session.get_bind().dialect.name == "sqlite":
        return newest
    oldest = session.scalar(_OLDEST_WRITER)
    return newest if oldest is None else min(newest, oldest)


def page(
    session: Session, *, after: int, until: int, limit: int, which: EventFilter | None = None
) -> list[tuple[TaskEvent, TaskOfEvent]]:
    """The events after one id and up to another, oldest first. Without `which`: all."""
    workflow = select(WorkflowStepRun.run_id).where(WorkflowStepRun.task_id == TaskRun.id).limit(1).scalar_subquery()
    statement = (
        select(TaskEvent, TaskRun.name, TaskRun.queue, TaskRun.tags, workflow, TaskRun.batch_id)
        .join(TaskRun, TaskRun.id == TaskEvent.task_id)
        .where(TaskEvent.seq > after, TaskEvent.seq <= until, *(which.clauses() if which else ()))
        .order_by(TaskEvent.seq)
        .limit(limit)
    )
    return [
        (event, TaskOfEvent(name, queue, tags or [], run, batch))
        for event, name, queue, tags, run, batch in session.execute(statement)
    ]


def before_newest(session: Session, which: EventFilter, *, until: int, number: int) -> int:
    """The id after which so many of the selected events are, up to `until`; 0: there are no more."""
    statement = select(TaskEvent.seq).join(TaskRun, TaskRun.id == TaskEvent.task_id)
    newest_first = statement.where(TaskEvent.seq <= until, *which.clauses()).order_by(TaskEvent.seq.desc())
    return session.scalar(newest_first.offset(number).limit(1)) or 0


def highest_id(session: Session) -> int:
    """The highest id that an event ever had. A higher one is of another copy of the database."""
    known = max(newest_event(session), mark(session, NEWEST), mark(session, DELETED))
    if session.get_bind().dialect.name == "sqlite":
        return known
    return max(known, session.scalar(_LAST_GIVEN) or 0)


def _of_run(id: str) -> ColumnElement[bool]:
    return WorkflowStepRun.run_id == id
