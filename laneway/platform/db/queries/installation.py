"""Queries over the row of the installation."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from laneway.platform.db.models import Installation

NUMBER = 1


def find_id(session: Session) -> str | None:
    """Return the id of the installation; None in a new database."""
    return session.scalar(select(Installation.id).where(Installation.number == NUMBER))


def make_id(session: Session, *, now: datetime) -> str:
    """Give the installation an id, unless another process has done so; return the one that it has."""
    values = {"number": NUMBER, "id": uuid4().hex, "created_at": now, "written_at": now}
    dialect = sqlite if session.connection().dialect.name == "sqlite" else postgresql
    session.execute(dialect.insert(Installation).values(**values).on_conflict_do_nothing())
    return session.scalars(select(Installation.id).where(Installation.number == NUMBER)).one()


def write(session: Session, *, now: datetime, room: int) -> None:
    """Change the row, to see whether the database takes a write, and whether it has room for so many bytes."""
    own = update(Installation).where(Installation.number == NUMBER)
    if room:
        session.execute(own.values(room=bytes(room)))
    session.execute(own.values(room=None, written_at=now))
