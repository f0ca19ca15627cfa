"""The tables of documents and their passages, which replies cite."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, Id


class Document(Base):
    """A document and its newest ingestion, whether that succeeded or not."""

    __tablename__ = "documents"
    __table_args__ = (Index("ix_documents_user", "user_id", "id"), Index("ix_documents_state", "state", "updated_at"))

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    title: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    passage_count: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(String(16), default="processed", server_default="processed")
    """State of the newest ingestion: queued, processed, failed or cancelled. Passages come from the last success."""
    user_id: Mapped[str | None] = mapped_column(String(155))
    file_name: Mapped[str | None]
    object_key: Mapped[str | None]
    content_type: Mapped[str | None] = mapped_column(String(200))
    """The detected content type."""
    size: Mapped[int | None] = mapped_column(BigInteger)
    """Size of the file in bytes, counted while it was copied."""
    pages: Mapped[int | None]
    problems: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """What is missing from the stored passages, and why."""
    task_id: Mapped[str | None] = mapped_column(String(155))
    """The task of the newest ingestion."""
    error_type: Mapped[str | None] = mapped_column(String(200))
    error: Mapped[str | None]
    callback_url: Mapped[str | None]
    stored_of: Mapped[datetime | None]
    """When the ingestion that stored the passages was accepted. An older ingestion does not replace them."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Passage(Base):
    """A piece of a document, the unit of search. The migration creates the full-text index over it."""

    __tablename__ = "passages"
    __table_args__ = (Index("ix_passages_document", "document_id", "position"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    position: Mapped[int]
    text: Mapped[str]
    search_text: Mapped[str | None]
    """The form of the text that is indexed, if it is not the text itself."""
