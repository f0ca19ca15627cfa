"""The tables of documents: how each came in, and its passages, which replies may cite."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, Id


class Document(Base):
    """A text that replies may cite, or that was to become one: its newest ingestion."""

    __tablename__ = "documents"
    __table_args__ = (Index("ix_documents_user", "user_id", "id"), Index("ix_documents_state", "state", "updated_at"))

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    title: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    passage_count: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(String(16), default="processed", server_default="processed")
    """Of the newest ingestion: queued, processed, failed or cancelled. The passages are those of the last good one."""
    user_id: Mapped[str | None] = mapped_column(String(155))
    file_name: Mapped[str | None]
    object_key: Mapped[str | None]
    content_type: Mapped[str | None] = mapped_column(String(200))
    """What it was found to be."""
    size: Mapped[int | None] = mapped_column(BigInteger)
    """Bytes of its file, counted."""
    pages: Mapped[int | None]
    task_id: Mapped[str | None] = mapped_column(String(155))
    """The task of the newest ingestion."""
    error_type: Mapped[str | None] = mapped_column(String(200))
    error: Mapped[str | None]
    callback_url: Mapped[str | None]
    stored_of: Mapped[datetime | None]
    """When the ingestion was accepted whose passages these are: an older one does not take their place."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Passage(Base):
    """A piece of a document, the unit of search; the full-text index over it is made by the migration."""

    __tablename__ = "passages"
    __table_args__ = (Index("ix_passages_document", "document_id", "position"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    position: Mapped[int]
    text: Mapped[str]
