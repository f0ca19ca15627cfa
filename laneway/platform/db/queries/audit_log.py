"""Queries over the audit log: its end, its entries, and the erasure of contents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Final

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from laneway.platform.db.models import AuditLogEntry, AuditLogHead
from laneway.platform.db.queries.backwards import Found, read_backwards

PAGE: Final = 1_000
_HEAD: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLogFilter:
    """Selects entries; a field that is not set selects all. An action also selects those that continue it: `queue`
    selects `queue.pause`."""

    action: str | None = None
    object_id: str | None = None
    caller: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def clauses(self) -> list[ColumnElement[bool]]:
        """The filter as conditions."""
        found: list[ColumnElement[bool]] = []
        for column, value in (
            (AuditLogEntry.object_id, self.object_id),
            (AuditLogEntry.caller_name, self.caller),
            (AuditLogEntry.request_id, self.request_id),
        ):
            if value is not None:
                found.append(column == value)
        if self.action is not None:
            of_group = AuditLogEntry.action.startswith(f"{self.action}.", autoescape=True)
            found.append((AuditLogEntry.action == self.action) | of_group)
        if self.since is not None:
            found.append(AuditLogEntry.at >= self.since)
        if self.until is not None:
            found.append(AuditLogEntry.at < self.until)
        return found


def lock_head(session: Session, *, start: str) -> AuditLogHead:
    """The end of the log, locked until the transaction ends. `start`: the hash before the first entry."""
    locked = select(AuditLogHead).where(AuditLogHead.number == _HEAD).with_for_update()
    refreshed = locked.execution_options(populate_existing=True)
    head = session.scalar(refreshed)
    if head is None:
        last = session.scalar(select(AuditLogEntry).order_by(AuditLogEntry.seq.desc()).limit(1))
        dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
        values = {"number": _HEAD, "seq": last.seq if last else 0, "hash": last.hash if last else start}
        session.execute(dialect.insert(AuditLogHead).values(**values).on_conflict_do_nothing())
        head = session.scalars(refreshed).one()
    return head


def head_of(session: Session) -> tuple[int, str] | None:
    """Number and hash of the last entry, as the log says; None: nobody has ever appended one."""
    row = session.execute(select(AuditLogHead.seq, AuditLogHead.hash).where(AuditLogHead.number == _HEAD)).first()
    return None if row is None else (row[0], row[1])


def page(
    session: Session, which: AuditLogFilter, *, before: int | None = None, limit: int = 50
) -> Sequence[AuditLogEntry]:
    """Selected entries, newest first. `before`: the number of the last entry of the previous page."""
    statement = select(AuditLogEntry).where(*which.clauses())
    if before is not None:
        statement = statement.where(AuditLogEntry.seq < before)
    return session.scalars(statement.order_by(AuditLogEntry.seq.desc()).limit(limit)).all()


def scan(session: Session, which: AuditLogFilter, *, before: int | None, limit: int) -> Found[AuditLogEntry]:
    """As `page`, but in a bounded time for each filter: there may be fewer entries, and more may follow."""
    read, number = partial(_part, session, which), AuditLogEntry.seq
    return read_backwards(session, number, read, number_of=attrgetter("seq"), before=before, limit=limit)


def _part(session: Session, which: AuditLogFilter, within: ColumnElement[bool], limit: int) -> Sequence[AuditLogEntry]:
    statement = select(AuditLogEntry).where(*which.clauses(), within)
    return session.scalars(statement.order_by(AuditLogEntry.seq.desc()).limit(limit)).all()


def in_order(
    session: Session,
    *,
    after: int | None = None,
    until: int | None = None,
    between: Callable[[], None] = lambda: None,
) -> Iterator[AuditLogEntry]:
    """Every entry, oldest first, or those after and up to these numbers. `between`: called between two pages."""
    bounded = select(AuditLogEntry).order_by(AuditLogEntry.seq).limit(PAGE)
    bounded = bounded if until is None else bounded.where(AuditLogEntry.seq <= until)
    while True:
        rows = session.scalars(bounded if after is None else bounded.where(AuditLogEntry.seq > after)).all()
        yield from rows
        between()
        if len(rows) < PAGE:
            return
        after = rows[-1].seq
        session.expunge_all()


def erase_contents(session: Session, seqs: Sequence[int]) -> None:
    """Erase object, before and after of these entries; who, what and when stay, and so does the chain."""
    for first in range(0, len(seqs), PAGE):
        statement = update(AuditLogEntry).where(AuditLogEntry.seq.in_(seqs[first : first + PAGE]))
        emptied = statement.values(object_id=None, before=None, after=None, salt=None)
        session.execute(emptied.execution_options(synchronize_session=False))
