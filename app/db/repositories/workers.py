"""Queries over the live workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.db.models import Worker

ALIVE = timedelta(seconds=20)
"""A worker that reported within this time is alive."""


def report(session: Session, name: str, *, queues: Sequence[str], now: datetime) -> None:
    """Say that a worker lives, and which queues it serves."""
    seen = session.execute(update(Worker).where(Worker.name == name).values(queues=list(queues), seen_at=now))
    if not seen.rowcount:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        session.add(Worker(name=name, queues=list(queues), started_at=now, seen_at=now))


def leave(session: Session, name: str) -> None:
    """Say that a worker stopped."""
    session.execute(delete(Worker).where(Worker.name == name))


def alive(session: Session, *, now: datetime) -> Sequence[Worker]:
    """The workers that reported lately."""
    return session.scalars(select(Worker).where(Worker.seen_at > now - ALIVE).order_by(Worker.name)).all()


def serving(session: Session, *, now: datetime) -> dict[str, int]:
    """Queue → number of live workers."""
    return dict(Counter(queue for worker in alive(session, now=now) for queue in worker.queues))
