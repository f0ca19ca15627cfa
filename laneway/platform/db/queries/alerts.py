"""Queries over alerts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from laneway.platform.db.models import Alert

MAX_NOTIFIED: Final = 100
"""Alerts of each kind of news in one notice."""
SETTLED: Final = timedelta(minutes=5)
"""A problem that comes back within this time is the same alert. Its end is told when it has been over for so long."""


def open_alert(session: Session, kind: str, *, subject: str, message: str, now: datetime) -> bool:
    """Open an alert, or replace the message of the open one, or of one that was closed a moment ago. True: it is new.

    A reopened alert goes on: a problem that comes and goes is not told again each time.
    """
    same = (Alert.kind == kind, Alert.subject == subject)
    if session.scalars(
        update(Alert).where(*same, Alert.closed_at.is_(None)).values(message=message).returning(Alert.id)
    ).all():
        return False
    recent = select(Alert.id).where(*same, Alert.closed_at > now - SETTLED, Alert.end_notified_at.is_(None))
    last = session.scalar(recent.order_by(Alert.id.desc()).limit(1))
    try:
        with session.begin_nested():
            if last is None:
                session.add(Alert(kind=kind, subject=subject, message=message, opened_at=now))
            else:
                session.execute(update(Alert).where(Alert.id == last).values(closed_at=None, message=message))
    except IntegrityError:  # another sweep has opened it
        session.execute(update(Alert).where(*same, Alert.closed_at.is_(None)).values(message=message))
        return False
    return last is None


def close_alert(session: Session, kind: str, *, subject: str, now: datetime) -> None:
    """Close the open alert of this kind and subject, if there is one."""
    is_open = (Alert.kind == kind, Alert.subject == subject, Alert.closed_at.is_(None))
    session.execute(update(Alert).where(*is_open).values(closed_at=now))


def close_others(
    session: Session, current: Collection[tuple[str, str]], *, now: datetime, unknown: Collection[str]
) -> list[Alert]:
    """Close the open alerts whose (kind, subject) is not in `current`; returns the alerts that it closed.

    `unknown`: kinds of which it is not known whether their problems still exist; their alerts stay open.
    """
    over = [
        alert for alert in all_open(session) if (alert.kind, alert.subject) not in current and alert.kind not in unknown
    ]
    for alert in over:
        alert.closed_at = now
    return over


def all_open(session: Session) -> Sequence[Alert]:
    """All open alerts."""
    return session.scalars(select(Alert).where(Alert.closed_at.is_(None)).order_by(Alert.id)).all()


def listing(session: Session, *, closed: bool = False, limit: int = 200) -> Sequence[Alert]:
    """The open alerts, newest first; with `closed` the closed ones as well."""
    statement = select(Alert).order_by(Alert.id.desc()).limit(limit)
    return session.scalars(statement if closed else statement.where(Alert.closed_at.is_(None))).all()


def untold(
    session: Session, *, told_since: datetime, quiet: tuple[datetime, datetime] | None, held: Collection[str]
) -> list[Alert]:
    """Alerts that no notice covers yet, locked, oldest first: the open ones, and those that opened in quiet hours.

    An alert is left out if a notice after `told_since` covered an earlier one of the same kind and subject: an alert
    that keeps opening and closing must not be told each time. `quiet`: the last quiet hours, if they are over. `held`:
    kinds that are told later.
    """
    same = aliased(Alert)
    told = exists().where(same.kind == Alert.kind, same.subject == Alert.subject, same.notified_at >= told_since)
    is_open = Alert.closed_at.is_(None)
    if quiet is not None:
        is_open = or_(is_open, and_(Alert.opened_at >= quiet[0], Alert.opened_at < quiet[1]))
    return _locked(session, and_(is_open, Alert.notified_at.is_(None), ~told), held)


def to_remind_of(session: Session, *, told_before: datetime, held: Collection[str]) -> list[Alert]:
    """Open alerts whose last notice is older than this, locked, oldest first. `held`: kinds that are left out."""
    return _locked(session, and_(Alert.closed_at.is_(None), Alert.notified_at <= told_before), held)


def ended(session: Session, *, now: datetime, held: Collection[str]) -> list[Alert]:
    """Closed alerts that were told and whose end was not, locked, oldest first. `held`: kinds that are left out."""
    over = and_(Alert.closed_at <= now - SETTLED, Alert.notified_at.is_not(None), Alert.end_notified_at.is_(None))
    return _locked(session, over, held)


def by_id(session: Session, ids: Sequence[int]) -> Sequence[Alert]:
    """The alerts with these ids; an unknown id is ignored."""
    return session.scalars(select(Alert).where(Alert.id.in_(ids)).order_by(Alert.id)).all()


def _locked(session: Session, condition: ColumnElement[bool], held: Collection[str]) -> list[Alert]:
    statement = select(Alert).where(condition, Alert.kind.not_in(held)).order_by(Alert.id).limit(MAX_NOTIFIED)
    return list(session.scalars(statement.with_for_update()))
