"""The tables of the audit log. The database refuses to change and to delete its entries, except for their contents."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base


class AuditLogEntry(Base):
    """An action: who did it, to which object, and what that changed.

    Its contents (object, before, after) can be erased, because they may name a person. The hash covers a salted digest
    of them, so that the chain still holds then.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_object", "object_kind", "object_id"),
        Index("ix_audit_log_action", "action", "seq"),
    )

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Counts from 1 without a gap."""
    at: Mapped[datetime]
    caller_kind: Mapped[str] = mapped_column(String(16))
    caller_name: Mapped[str] = mapped_column(String(200))
    tenant: Mapped[str | None] = mapped_column(String(200))
    request_id: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    object_kind: Mapped[str] = mapped_column(String(32))
    object_id: Mapped[str | None] = mapped_column(String(200))
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    salt: Mapped[str | None] = mapped_column(String(32))
    """Makes the digest of the contents unguessable. None: the contents were erased."""
    digest: Mapped[str] = mapped_column(String(64))
    """The digest of salt, object, before and after."""
    previous: Mapped[str] = mapped_column(String(64))
    """The hash of the entry before this one."""
    hash: Mapped[str] = mapped_column(String(64))


class AuditLogHead(Base):
    """The last entry of the audit log. Whoever appends locks this row first, so that two processes take turns."""

    __tablename__ = "audit_log_head"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Always 1."""
    seq: Mapped[int] = mapped_column(BigInteger)
    """0: there is no entry yet."""
    hash: Mapped[str] = mapped_column(String(64))
