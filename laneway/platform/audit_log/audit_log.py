"""The audit log as operators use it: record, list, verify."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from laneway.platform.audit_log.recording import record
from laneway.platform.audit_log.verification import Chain, Verification
from laneway.platform.db.models import AuditLogEntry
from laneway.platform.db.queries import audit_log as queries
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.db.session import Database
from laneway.schemas.audit_log import AuditLogPage, AuditLogVerification, AuditLogView


class AuditLog:
    """Records, lists and verifies entries. Nothing deletes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        action: str,
        of: tuple[str, str],
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> int | None:
        """Append an entry in a transaction of its own, for an action that changes more than the database.

        Call it before the action: what cannot be recorded must not be done. See `recording.record`.
        """
        with self._database.transaction() as session:
            return record(session, action, of, before=before, after=after)

    def page(self, which: AuditLogFilter, *, before: int | None = None, limit: int = 50) -> AuditLogPage:
        """Entries, newest first, and the `before` of the next page; None after the last page."""
        with self._database.reading() as session:
            rows = queries.page(session, which, before=before, limit=limit)
        following = rows[-1].seq if len(rows) == limit else None
        return AuditLogPage(entries=[_view(row) for row in rows], next=following)

    def scan(self, which: AuditLogFilter, *, before: int | None = None, limit: int = 50) -> AuditLogPage:
        """As `page`, but in a bounded time for each filter: there may be fewer entries, and more may follow."""
        with self._database.reading() as session:
            found = queries.scan(session, which, before=before, limit=limit)
        return AuditLogPage(entries=[_view(row) for row in found.rows], next=found.next)

    def verify(
        self, *, expected: tuple[int, str] | None = None, between: Callable[[], None] = lambda: None
    ) -> Verification:
        """Check every entry. Entries that are appended meanwhile are checked as well.

        `expected`: number and hash of an entry that must be there, as an earlier check has returned them. `between`:
        called between two pages; if it raises, the check stops there.
        """
        chain = Chain(expected)
        with self._database.reading() as session:
            damage = chain.check(queries.in_order(session, between=between))
            head = queries.head_of(session)
            if damage is None and head is not None and head[0] > chain.length:  # appended since the last page
                damage = chain.check(queries.in_order(session, after=chain.length, until=head[0]))
            return damage or chain.end(head)


def expected_entry(text: str | None) -> tuple[int, str] | None:
    """Number and hash of an entry, from `NUMBER:HASH` (`schemas.audit_log.ENTRY`)."""
    number, _, hash = (text or "").partition(":")
    return (int(number), hash) if text else None


def verification_view(found: Verification) -> AuditLogVerification:
    """Return the result of a check as a response."""
    return AuditLogVerification(
        holds=found.holds, entries=found.entries, hash=found.hash, damage=found.damage, entry=found.seq
    )


def _view(row: AuditLogEntry) -> AuditLogView:
    return AuditLogView(
        seq=row.seq,
        at=row.at,
        caller_kind=row.caller_kind,
        caller=row.caller_name,
        tenant=row.tenant,
        request_id=row.request_id,
        action=row.action,
        object_kind=row.object_kind,
        object_id=row.object_id,
        before=row.before,
        after=row.after,
        erased=row.salt is None,
        hash=row.hash,
    )
