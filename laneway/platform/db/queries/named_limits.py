"""Queries over the limits that tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from laneway.platform.db.models import NamedLimitRow


def all_limits(session: Session) -> Sequence[NamedLimitRow]:
    """Every limit that an operator has set."""
    return session.scalars(select(NamedLimitRow).order_by(NamedLimitRow.name)).all()


def find(session: Session, name: str) -> NamedLimitRow | None:
    """A limit, locked until the transaction ends."""
    return session.scalar(select(NamedLimitRow).where(NamedLimitRow.name == name).with_for_update())


def save(session: Session, **values: Any) -> None:
    """Store a limit; it replaces an earlier one of its name."""
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    new = dialect.insert(NamedLimitRow).values(**values)
    replaced = {name: new.excluded[name] for name in values if name != "name"}
    session.execute(new.on_conflict_do_update(index_elements=[NamedLimitRow.name], set_=replaced))


def remove(session: Session, name: str) -> None:
    """Delete a limit."""
    session.execute(delete(NamedLimitRow).where(NamedLimitRow.name == name))
