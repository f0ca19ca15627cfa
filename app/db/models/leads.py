"""The tables of leads and of the local CRM."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, Id


class Lead(Base):
    """A person who asked to be contacted, and the state of their record in the CRM."""

    __tablename__ = "leads"
    __table_args__ = (
        Index("uq_leads_source", "source", "source_id", unique=True),
        Index("ix_leads_crm_state", "crm_state", "id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    lead_id: Mapped[str] = mapped_column(String(128), unique=True, index=True)
    """The id that callers use."""
    uid: Mapped[str] = mapped_column(String(40), unique=True, index=True)
    """Unique even when a deleted lead had the same `lead_id`; ids of tasks and idempotency keys derive from it."""
    source: Mapped[str] = mapped_column(String(32))
    source_id: Mapped[str] = mapped_column(String(300))
    conversation_id: Mapped[str | None] = mapped_column(String(155))
    fields: Mapped[dict[str, Any]]
    fingerprint: Mapped[str] = mapped_column(String(64), default="")
    """Digest of the content at creation; a request with the same digest is a repeat."""
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(index=True)
    crm_state: Mapped[str] = mapped_column(String(16))
    crm_id: Mapped[str | None] = mapped_column(String(200))
    crm_version: Mapped[int] = mapped_column(default=0)
    """The newest version that the CRM has accepted; 0: none."""
    crm_synced_at: Mapped[datetime | None]
    crm_error: Mapped[str | None]
    crm_request: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The request to the CRM that was started last, until its end is recorded (`app/services/leads/crm/sync.py`)."""


class CrmRecord(Base):
    """A lead's record in the local CRM."""

    __tablename__ = "crm_records"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    lead_uid: Mapped[str] = mapped_column(ForeignKey("leads.uid", ondelete="CASCADE"), unique=True, index=True)
    version: Mapped[int]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
