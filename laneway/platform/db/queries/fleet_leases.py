"""Queries over the leases of the fleet. A change is one conditional statement, so one of several callers succeeds."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, cast

from sqlalchemy import Insert, Table, Update, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.models import FleetLease

_TABLE = cast("Table", FleetLease.__table__)
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Holding(NamedTuple):
    """Who holds a lease, and how often it was renewed."""

    holder: str
    renewals: int


def read(session: Session, name: str) -> Holding | None:
    """Return who holds a lease; None: nobody."""
    row = session.execute(select(_TABLE.c.holder, _TABLE.c.renewals).where(_TABLE.c.name == name)).one_or_none()
    return Holding(*row) if row else None


def renewed_at(session: Session, name: str) -> datetime | None:
    """Return when a lease was renewed, by the clock of its holder; None: nobody holds it."""
    return session.scalar(select(_TABLE.c.renewed_at).where(_TABLE.c.name == name))


def renew(session: Session, name: str, *, holder: str) -> bool:
    """Renew a lease; False when somebody else holds it, or nobody."""
    held = update(_TABLE).where(_TABLE.c.name == name, _TABLE.c.holder == holder)
    return _changed(session, held.values(renewals=_TABLE.c.renewals + 1, renewed_at=clock.now()))


def take(session: Session, name: str, *, holder: str, seen: Holding | None) -> bool:
    """Take a lease over; False when it has changed since it was `seen`."""
    if seen is None:
        insert = _INSERT[session.connection().dialect.name](_TABLE).values(
            name=name, holder=holder, renewals=1, renewed_at=clock.now()
        )
        return _changed(session, insert.on_conflict_do_nothing())
    unchanged = (_TABLE.c.name == name, _TABLE.c.holder == seen.holder, _TABLE.c.renewals == seen.renewals)
    values = {"holder": holder, "renewals": seen.renewals + 1, "renewed_at": clock.now()}
    return _changed(session, update(_TABLE).where(*unchanged).values(values))


def give_up(session: Session, name: str, *, holder: str) -> None:
    """Delete a lease, so that the next caller takes it at once. Does nothing when somebody else holds it."""
    session.execute(delete(_TABLE).where(_TABLE.c.name == name, _TABLE.c.holder == holder))


def _changed(session: Session, statement: Insert | Update) -> bool:
    return bool(session.scalars(statement.returning(_TABLE.c.name)).all())
