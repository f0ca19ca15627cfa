"""Queries over schedules and their firings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from laneway.platform.db.models import ScheduleFiring, StoredSchedule

_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_OTHER = aliased(ScheduleFiring)
LEASE = "beat"
"""The lease of the fleet whose holder fires what is due."""
SENT = "sent"
KEPT_FIRINGS = 10
"""The last firings of each schedule stay, however old they are."""


def all_schedules(session: Session) -> Sequence[StoredSchedule]:
    """Every schedule, also those that were removed from the code, by key."""
    return session.scalars(select(StoredSchedule).order_by(StoredSchedule.key)).all()


def find(session: Session, key: str, *, lock: bool = False) -> StoredSchedule | None:
    """Return a schedule; None: there is none. `lock`: nobody else changes it before the transaction ends."""
    found = select(StoredSchedule).where(StoredSchedule.key == key)
    return session.scalar(found.with_for_update() if lock else found)


def count(session: Session, source: str) -> int:
    """The number of schedules of a source."""
    return session.scalar(select(func.count()).where(StoredSchedule.source == source)) or 0


def due(session: Session, now: datetime, *, limit: int) -> Sequence[StoredSchedule]:
    """The schedules that have a firing to act now, the most urgent first."""
    found = select(StoredSchedule).where(_is_active(), StoredSchedule.next_at <= now)
    return session.scalars(found.order_by(StoredSchedule.next_at).limit(limit)).all()


def next_at(session: Session) -> datetime | None:
    """When the next firing of all schedules acts."""
    return session.scalar(select(func.min(StoredSchedule.next_at)).where(_is_active()))


def active(session: Session) -> Sequence[StoredSchedule]:
    """The schedules that are neither paused nor removed."""
    return session.scalars(select(StoredSchedule).where(_is_active()).order_by(StoredSchedule.key)).all()


def add_firing(session: Session, **values: Any) -> bool:
    """Store what became of a due time; False: that is stored already, and the due time must not fire again."""
    new = _INSERT[session.connection().dialect.name](ScheduleFiring).values(**values)
    added = session.execute(new.on_conflict_do_nothing().returning(ScheduleFiring.due_at))
    return added.first() is not None


def last_firings(session: Session, key: str, *, limit: int = KEPT_FIRINGS) -> Sequence[ScheduleFiring]:
    """The last firings of a schedule, newest first."""
    found = select(ScheduleFiring).where(ScheduleFiring.schedule == key)
    return session.scalars(found.order_by(ScheduleFiring.due_at.desc()).limit(limit)).all()


def last_tasks(session: Session, key: str, *, limit: int = KEPT_FIRINGS) -> Sequence[str]:
    """The ids of the last tasks that a schedule sent."""
    sent = select(ScheduleFiring.task_id).where(ScheduleFiring.schedule == key, ScheduleFiring.outcome == SENT)
    ids = session.scalars(sent.order_by(ScheduleFiring.due_at.desc()).limit(limit)).all()
    return [id for id in ids if id is not None]


def delete_firings(session: Session, *, before: datetime, limit: int) -> int:
    """Delete at most `limit` firings from before a time, without the last ones of each schedule; return the number."""
    newer = select(_OTHER.due_at).where(
        _OTHER.schedule == ScheduleFiring.schedule, _OTHER.due_at > ScheduleFiring.due_at
    )
    has_newer = newer.limit(1).offset(KEPT_FIRINGS - 1).exists()
    old = (
        select(ScheduleFiring.schedule, ScheduleFiring.due_at)
        .where(ScheduleFiring.decided_at < before, has_newer)
        .limit(limit)
    )
    rows = [tuple(row) for row in session.execute(old).all()]
    if rows:
        chosen = tuple_(ScheduleFiring.schedule, ScheduleFiring.due_at).in_(rows)
        session.execute(delete(ScheduleFiring).where(chosen))
    return len(rows)


def _is_active() -> ColumnElement[bool]:
    return StoredSchedule.paused_at.is_(None) & StoredSchedule.removed_at.is_(None)
