"""Ids of events that are kept when the events are deleted.

`DELETED`: the highest id of an event that was deleted with its task. A reader that is behind it may have missed events.
`NEWEST`: on SQLite, the highest id that was ever deleted while no event had a higher one. SQLite would give that id
again. A trigger keeps this mark.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from laneway.platform.db.models import EventMark, TaskEvent, TaskRun

DELETED: Final = "deleted"
NEWEST: Final = "newest"


def mark(session: Session, name: str) -> int:
    """The id that a mark has; 0: there is none."""
    return session.scalar(select(EventMark.seq).where(EventMark.name == name)) or 0


def note_deletion(session: Session, tasks: ColumnElement[bool]) -> None:
    """Mark the newest event of these tasks as deleted. Call it before they are deleted, in the same transaction."""
    ids = select(TaskRun.id).where(tasks)
    newest = session.scalar(select(func.max(TaskEvent.seq)).where(TaskEvent.task_id.in_(ids)))
    if newest is None:
        return
    dialect: Any = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    new = dialect.insert(EventMark).values(name=DELETED, seq=newest)
    is_higher = EventMark.seq < new.excluded.seq
    values = {"seq": new.excluded.seq}
    session.execute(new.on_conflict_do_update(index_elements=[EventMark.name], set_=values, where=is_higher))
