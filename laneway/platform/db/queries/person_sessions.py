"""Queries about the sessions of people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from laneway.platform.db.models import PersonSession
from laneway.platform.db.queries.retention import delete_batch


def find(session: Session, digest: str, *, lock: bool = False) -> PersonSession | None:
    """Return the session of a digest; with `lock` it is locked until the end of the transaction."""
    return session.get(PersonSession, digest, with_for_update=lock)


def roles_of(session: Session, person: str) -> set[str]:
    """Return the roles that the person's sessions have."""
    return set(session.scalars(select(PersonSession.role).where(PersonSession.person == person).distinct()))


def set_role(session: Session, person: str, role: str) -> None:
    """Give all sessions of a person this role."""
    session.execute(update(PersonSession).where(PersonSession.person == person).values(role=role))


def end(session: Session, digest: str) -> bool:
    """Delete a session; False if it is not there."""
    ended = session.execute(delete(PersonSession).where(PersonSession.digest == digest).returning(PersonSession.digest))
    return ended.first() is not None


def end_all(session: Session, person: str) -> int:
    """Delete the sessions of a person; returns how many there were."""
    ended = session.execute(delete(PersonSession).where(PersonSession.person == person).returning(PersonSession.digest))
    return len(ended.all())


def count(session: Session, person: str, *, since: datetime) -> int:
    """Return the number of the person's sessions that began since then."""
    which = (PersonSession.person == person, PersonSession.began_at >= since)
    return session.scalar(select(func.count()).select_from(PersonSession).where(*which)) or 0


def listing(session: Session, *, since: datetime, limit: int) -> Sequence[PersonSession]:
    """Return the sessions that began since then, the latest first."""
    rows = select(PersonSession).where(PersonSession.began_at >= since)
    return session.scalars(rows.order_by(PersonSession.began_at.desc(), PersonSession.digest).limit(limit)).all()


def delete_old(session: Session, *, before: datetime, limit: int) -> int:
    """Delete at most `limit` sessions that began before `before`; returns how many."""
    return delete_batch(session, PersonSession.digest, PersonSession.began_at < before, limit)
