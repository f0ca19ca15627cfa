"""Queries about the sessions of people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.orm import Session

from laneway.platform.db.models import PersonSession
from laneway.platform.db.queries.retention import delete_batch

_IS_REPLACED: Final = PersonSession.began_at > PersonSession.confirmed_at
_AFTER_DIGITS: Final = "g"
"""The first character after the hexadecimal digits."""


class PersonSummary(NamedTuple):
    """A person with all sessions. All have one role."""

    person: str
    role: str
    sessions: int
    waiting: int
    """Sessions that count again when the identity provider has named the person again."""
    began_at: datetime
    """When the latest session began."""
    confirmed_at: datetime


def find(session: Session, digest: str, *, lock: bool = False) -> PersonSession | None:
    """Return the session of a digest; with `lock` it is locked until the end of the transaction."""
    return session.get(PersonSession, digest, with_for_update=lock)


def roles_of(session: Session, person: str) -> set[str]:
    """Return the roles that the person's sessions have."""
    return set(session.scalars(select(PersonSession.role).where(PersonSession.person == person).distinct()))


def set_role(session: Session, person: str, role: str) -> None:
    """Give all sessions of a person this role."""
    session.execute(update(PersonSession).where(PersonSession.person == person).values(role=role))


def of_browser(session: Session, browser: str) -> Sequence[PersonSession]:
    """Return the rows of a session, whose digests begin with this: one for each id that it has had."""
    return session.scalars(select(PersonSession).where(_begins_with(browser))).all()


def end_of_browser(session: Session, browser: str) -> bool:
    """Delete the rows of a session; False if there are none."""
    ended = session.execute(delete(PersonSession).where(_begins_with(browser)).returning(PersonSession.digest))
    return ended.first() is not None


def end_all(session: Session, person: str) -> int:
    """Delete the sessions of a person; returns how many there were."""
    gone = delete(PersonSession).where(PersonSession.person == person)
    ended = session.execute(gone.returning(PersonSession.began_at, PersonSession.confirmed_at)).all()
    return sum(began_at <= confirmed_at for began_at, confirmed_at in ended)


def listing(session: Session, *, since: datetime, limit: int) -> Sequence[PersonSession]:
    """Return the sessions that began since then, the latest first, with their present ids."""
    rows = select(PersonSession).where(PersonSession.began_at >= since, ~_IS_REPLACED)
    return session.scalars(rows.order_by(PersonSession.began_at.desc(), PersonSession.digest).limit(limit)).all()


def people(
    session: Session, *, since: datetime, unconfirmed_until: datetime, part: str, limit: int
) -> list[PersonSummary]:
    """Return who has sessions that began since then; who has logged in last comes first.

    `unconfirmed_until`: a session that was confirmed then or before waits for the provider. `part`: of the names.
    """
    latest, waits = func.max(PersonSession.began_at), PersonSession.confirmed_at <= unconfirmed_until
    statement = (
        select(
            PersonSession.person,
            func.max(PersonSession.role),
            func.count(),
            func.count().filter(waits),
            latest,
            func.max(PersonSession.confirmed_at),
        )
        .where(PersonSession.began_at >= since, ~_IS_REPLACED)
        .where(PersonSession.person.icontains(part, autoescape=True))
        .group_by(PersonSession.person)
        .order_by(latest.desc(), PersonSession.person)
        .limit(limit)
    )
    return [PersonSummary(*row) for row in session.execute(statement)]


def delete_replaced(session: Session, person: str, *, now: datetime) -> None:
    """Delete the rows of the person's sessions whose ids were replaced, and count no more."""
    session.execute(
        delete(PersonSession).where(PersonSession.person == person, _IS_REPLACED, PersonSession.began_at <= now)
    )


def delete_old(session: Session, *, before: datetime, limit: int) -> int:
    """Delete at most `limit` sessions that began before `before`; returns how many."""
    return delete_batch(session, PersonSession.digest, PersonSession.began_at < before, limit)


def _begins_with(browser: str) -> ColumnElement[bool]:
    return and_(PersonSession.digest >= browser, PersonSession.digest < browser + _AFTER_DIGITS)
