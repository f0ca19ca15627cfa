"""The tables of analytics: analyses of conversations, and reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Float, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class ConversationAnalysis(Base):
    """The newest analysis of one conversation."""

    __tablename__ = "conversation_analyses"

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    sentiment: Mapped[float] = mapped_column(Float)
    """-1 (negative) to 1 (positive)"""
    sentiment_label: Mapped[str] = mapped_column(String(16))
    key_phrases: Mapped[list[Any]]
    customer_messages: Mapped[int]
    replies: Mapped[int]
    mean_response_seconds: Mapped[float | None] = mapped_column(Float)
    resolved: Mapped[bool]
    analysed_at: Mapped[datetime]


class Report(Base):
    """A computed report that can be fetched."""

    __tablename__ = "reports"
    __table_args__ = (Index("ix_reports_kind", "kind", "created_at"),)

    id: Mapped[str] = mapped_column(String(155), primary_key=True)
    kind: Mapped[str] = mapped_column(String(48))
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
