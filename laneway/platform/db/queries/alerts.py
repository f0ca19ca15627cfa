"""Queries over alerts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import exists, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from laneway.platform.db.models import Alert

MAX_NOTIFIED = 100
"""Alerts in one notice."""


def open_alert(session: Session, kind: str, *, subject: str, message: str, now: datetime) -> bool:
    """Open an alert, or replace the message of the open one. True: it is new."""
    try:
        with session.begin_nested():
            session.add(Alert(kind=kind, subject=subject, message=message, opened_at=now))
    except IntegrityError:
        session.execute(
            update(Alert)
            .where(Alert.kind == kind, Alert.subject == subject, Alert.closed_at.is_(None))
            .values(message=message)
        )
        return False
    return True


def close_alert(session: Session, kind: str, *, subject: str, now: datetime) -> None:
    """Close the open alert of this kind and subject, if there is one."""
    is_open = (Alert.kind == kind, Alert.subject == subject, Alert.closed_at.is_(None))
    session.execute(update(Alert).where(*is_open).values(closed_at=now))


def close_others(session: Session, current: Collection[tuple[str, str]], *, now: datetime) -> list[Alert]:
    """Close the open alerts whose (kind, subject) is not in `current`; returns the alerts that it closed."""
    over = [alert for alert in listing(session) if (alert.kind, alert.subject) not in current]
    for alert in over:
        alert.closed_at = now
    return over


def listing(session: Session, *, closed: bool = False, limit: int = 200) -> Sequence[Alert]:
    """The open alerts, newest first; with `closed` the closed ones as well."""
    statement = select(Alert).order_by(Alert.id.desc()).limit(limit)
    return session.scalars(statement if closed else statement.where(Alert.closed_at.is_(None))).all()


def unnotified(session: Session, *, notified_since: datetime) -> list[Alert]:
    """Open alerts that no notice covers yet, locked, oldest first.

    An alert is left out if a notice after `notified_since` covered an earlier one of the same kind and subject: an
    alert that keeps opening and closing must not send an e-mail each time.
    """
    same = aliased(Alert)
    notified = exists().where(
        same.kind == Alert.kind, same.subject == Alert.subject, same.notified_at >= notified_since
    )
    statement = select(Alert).where(Alert.closed_at.is_(None), Alert.notified_at.is_(None), ~notified)
    return list(session.scalars(statement.order_by(Alert.id).limit(MAX_NOTIFIED).with_for_update()))


def by_id(session: Session, ids: Sequence[int]) -> Sequence[Alert]:
    """The alerts with these ids; an unknown id is ignored."""
    return session.scalars(select(Alert).where(Alert.id.in_(ids)).order_by(Alert.id)).all()
