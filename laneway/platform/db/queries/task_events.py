"""Queries over the history of tasks: attempts, events, steps, and the offsets up to which journals are recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from laneway.engine.journal import START, EventKind
from laneway.platform.db.models import EventMark, JournalCursor, TaskAttempt, TaskEvent, TaskRun, TaskStep, TaskTag
from laneway.platform.db.queries.event_marks import NEWEST

_ADD_EVENTS = insert(cast("Table", TaskEvent.__table__))
_LAST_ID = select(
    func.max(
        func.coalesce(select(func.max(TaskEvent.seq)).scalar_subquery(), 0),
        func.coalesce(select(EventMark.seq).where(EventMark.name == NEWEST).scalar_subquery(), 0),
    )
)
"""On SQLite, the highest id that an event ever had: an id that was deleted is not given again."""


def lock_cursor(session: Session, queue: str) -> JournalCursor:
    """Lock and return the row with the offset up to which the journal of a queue is recorded.

    Nobody else records this journal until the transaction ends.
    """
    statement = select(JournalCursor).where(JournalCursor.queue == queue).with_for_update()
    found = session.scalars(statement).one_or_none()
    if found is None:
        try:
            with session.begin_nested():
                session.execute(insert(JournalCursor).values(queue=queue, position=START))
        except IntegrityError:
            pass  # another transaction inserted it first; the row exists now and can be locked
        found = session.scalars(statement).one()
    return found


def cursors(session: Session) -> Sequence[JournalCursor]:
    """The offsets of all journals."""
    return session.scalars(select(JournalCursor)).all()


def runs(session: Session, ids: Sequence[str]) -> Sequence[TaskRun]:
    """The tasks with these ids, locked. Their large columns are read when they are needed, which is seldom."""
    large = (defer(TaskRun.payload), defer(TaskRun.result), defer(TaskRun.raw))
    return session.scalars(select(TaskRun).where(TaskRun.id.in_(ids)).options(*large).with_for_update()).all()


def attempts_of(session: Session, ids: Sequence[str]) -> Sequence[TaskAttempt]:
    """All attempts of these tasks."""
    return session.scalars(select(TaskAttempt).where(TaskAttempt.task_id.in_(ids))).all()


def attempts(session: Session, task_id: str) -> Sequence[TaskAttempt]:
    """All attempts of a task, by number."""
    return session.scalars(select(TaskAttempt).where(TaskAttempt.task_id == task_id).order_by(TaskAttempt.number)).all()


def add_events(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Add events of tasks."""
    if rows:
        connection = session.connection()
        if connection.dialect.name == "sqlite":
            last = connection.scalar(_LAST_ID) or 0
            rows = [{**row, "seq": last + number} for number, row in enumerate(rows, 1)]
        connection.execute(_ADD_EVENTS, list(rows))


def add_event(session: Session, task_id: str, kind: str, *, at: datetime, **data: Any) -> None:
    """Add an event that belongs to no attempt, such as an operator's action."""
    add_events(session, [{"task_id": task_id, "at": at, "kind": kind, "attempt": None, "data": data}])


def add_tags(session: Session, task_id: str, tags: Sequence[str]) -> None:
    """Add the tags of a task, by which it can be searched."""
    if tags:
        session.execute(insert(TaskTag), [{"task_id": task_id, "tag": tag} for tag in tags])


def events(session: Session, task_id: str, *, after: int = 0, limit: int = 500) -> Sequence[TaskEvent]:
    """The events of a task after the event with the id `after`, oldest first."""
    statement = select(TaskEvent).where(TaskEvent.task_id == task_id, TaskEvent.seq > after)
    return session.scalars(statement.order_by(TaskEvent.seq).limit(limit)).all()


def newest_events(session: Session, task_id: str, *, limit: int) -> Sequence[TaskEvent]:
    """The newest events of a task, oldest first, without its output."""
    is_shown = TaskEvent.kind != EventKind.OUTPUT.value
    statement = (
        select(TaskEvent).where(TaskEvent.task_id == task_id, is_shown).order_by(TaskEvent.seq.desc()).limit(limit)
    )
    return session.scalars(statement).all()[::-1]


def steps(session: Session, task_id: str, *, limit: int = 200) -> Sequence[TaskStep]:
    """The stored results of steps, in the order in which they were stored."""
    statement = select(TaskStep).where(TaskStep.task_id == task_id).order_by(TaskStep.at).limit(limit)
    return session.scalars(statement).all()


def step(session: Session, task_id: str, name: str) -> TaskStep | None:
    """The stored result of a step."""
    return session.get(TaskStep, (task_id, name))


def save_step(session: Session, task_id: str, name: str, *, result: Any, attempt: int, at: datetime) -> None:
    """Store the result of a step, or the number of finished items of a loop."""
    found = session.get(TaskStep, (task_id, name))
    if found is None:
        session.add(TaskStep(task_id=task_id, name=name, result=result, attempt=attempt, at=at))
    else:
        found.result, found.attempt, found.at = result, attempt, at


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object from the journal. Any other text is returned under the name `text`."""
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"text": text}


def storable(text: str) -> str:
    """Return the text as every database stores it: without null bytes, and with `?` for half of a surrogate pair."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def error_group(*parts: str) -> str:
    """The fingerprint of an error: equal parts give the same group."""
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:16]


def newest_event(session: Session) -> int:
    """The id of the newest event of all tasks; 0: there is none."""
    return session.scalar(select(func.max(TaskEvent.seq))) or 0


def tasks_with_events(session: Session, ids: Sequence[str], *, after: int) -> list[str]:
    """Return the ids of tasks that have events after the event with the id `after`."""
    statement = select(TaskEvent.task_id).where(TaskEvent.task_id.in_(ids), TaskEvent.seq > after).distinct()
    return list(session.scalars(statement))
