"""Queries over the limits that operators set for queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from laneway.platform.db.models import QueueLimit


def all_limits(session: Session) -> Sequence[QueueLimit]:
    """The limits of every queue that an operator ever limited."""
    return session.scalars(select(QueueLimit).order_by(QueueLimit.queue)).all()


def find(session: Session, queue: str) -> QueueLimit | None:
    """The limits of a queue, locked until the transaction ends."""
    return session.scalar(select(QueueLimit).where(QueueLimit.queue == queue).with_for_update())


def save(session: Session, **values: Any) -> None:
    """Store the limits of a queue; they replace earlier ones."""
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    new = dialect.insert(QueueLimit).values(**values)
    replaced = {name: new.excluded[name] for name in values if name != "queue"}
    session.execute(new.on_conflict_do_update(index_elements=[QueueLimit.queue], set_=replaced))
