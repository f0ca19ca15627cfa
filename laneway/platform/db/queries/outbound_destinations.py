"""Queries over the destinations of outbound webhooks."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import OutboundDestination


def find(session: Session, name: str, *, lock: bool = False) -> OutboundDestination | None:
    """The destination of this name. With `lock` it cannot change before the transaction ends."""
    statement = select(OutboundDestination).where(OutboundDestination.name == name)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def with_longest_url(session: Session, urls: Sequence[str]) -> OutboundDestination | None:
    """The destination that has one of these addresses; if several have, the one with the longest."""
    statement = select(OutboundDestination).where(OutboundDestination.url.in_(urls))
    return session.scalars(statement.order_by(func.length(OutboundDestination.url).desc()).limit(1)).one_or_none()


def page(session: Session, *, after: str = "", limit: int) -> Sequence[OutboundDestination]:
    """Destinations by name. `after`: the last name of the previous page."""
    statement = select(OutboundDestination).where(OutboundDestination.name > after)
    return session.scalars(statement.order_by(OutboundDestination.name).limit(limit)).all()


def every(session: Session) -> Sequence[OutboundDestination]:
    """All destinations, locked, in the order of their names."""
    return session.scalars(select(OutboundDestination).order_by(OutboundDestination.name).with_for_update()).all()


def subscribed(session: Session, *, behind: int) -> Sequence[str]:
    """The names of the destinations that get events of tasks, and have not got those up to this id."""
    waiting = select(OutboundDestination.name).where(OutboundDestination.events_after < behind)
    return session.scalars(waiting.order_by(OutboundDestination.name)).all()


def count(session: Session) -> int:
    """The number of destinations."""
    return session.scalar(select(func.count()).select_from(OutboundDestination)) or 0
