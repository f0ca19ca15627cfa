"""Queries over alerts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import exists, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from laneway.platform.db.models import Alert

MOST_TOLD = 100
"""Alerts in one letter."""


def open_alert(session: Session, kind: str, *, subject: str, message: str, now: datetime) -> bool:
    """Open an alert, or refresh the open one; True when it is new."""
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
    """Close the open alert about this, if there is one."""
    open_one = (Alert.kind == kind, Alert.subject == subject, Alert.closed_at.is_(None))
    session.execute(update(Alert).where(*open_one).values(closed_at=now))


def close_others(session: Session, still: Collection[tuple[str, str]], *, now: datetime) -> list[Alert]:
    """Close the open alerts whose (kind, subject) is no longer true; gives back the closed ones."""
    over = [alert for alert in listing(session) if (alert.kind, alert.subject) not in still]
    for alert in over:
        alert.closed_at = now
    return over


def listing(session: Session, *, closed: bool = False, limit: int = 200) -> Sequence[Alert]:
    """Open alerts (or closed ones too), newest first."""
    statement = select(Alert).order_by(Alert.id.desc()).limit(limit)
    return session.scalars(statement if closed else statement.where(Alert.closed_at.is_(None))).all()


def unnotified(session: Session, *, lately: datetime) -> list[Alert]:
    """Open alerts that nobody was told of, unless an earlier one about the same was told since `lately`."""
    same = aliased(Alert)
    told = exists().where(same.kind == Alert.kind, same.subject == Alert.subject, same.notified_at >= lately)
    statement = select(Alert).where(Alert.closed_at.is_(None), Alert.notified_at.is_(None), ~told)
    return list(session.scalars(statement.order_by(Alert.id).limit(MOST_TOLD).with_for_update()))


def by_id(session: Session, ids: Sequence[int]) -> Sequence[Alert]:
    """Those of these alerts that there are."""
    return session.scalars(select(Alert).where(Alert.id.in_(ids)).order_by(Alert.id)).all()
