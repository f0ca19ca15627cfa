"""The tables of conversations, and reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Float, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, Id


class Conversation(Base):
    """One customer's thread."""

    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(String(155), primary_key=True)
    channel: Mapped[str] = mapped_column(String(32))
    customer: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(24))
    follow_ups: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime] = mapped_column(index=True)


class Message(Base):
    """One turn: what the customer, the assistant or an operator said."""

    __tablename__ = "messages"
    __table_args__ = (Index("ix_messages_conversation", "conversation_id", "id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    message_id: Mapped[str] = mapped_column(String(450), unique=True)
    """Unique per turn: a repeat of the same work stores nothing twice."""
    role: Mapped[str] = mapped_column(String(16))
    text: Mapped[str]
    in_reply_to: Mapped[str | None] = mapped_column(String(450))
    sources: Mapped[list[Any]] = mapped_column(default=list)
    responder: Mapped[str | None] = mapped_column(String(64))
    duration_ms: Mapped[int | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    task_id: Mapped[str | None] = mapped_column(String(155))
    created_at: Mapped[datetime] = mapped_column(index=True)


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
