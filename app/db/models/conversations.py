"""The tables of conversations and their messages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, Id


class Conversation(Base):
    """A conversation with one customer."""

    __tablename__ = "conversations"
    __table_args__ = (Index("ix_conversations_status", "status", "updated_at"),)

    id: Mapped[str] = mapped_column(String(155), primary_key=True)
    channel: Mapped[str] = mapped_column(String(32))
    customer: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(24))
    follow_ups: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime] = mapped_column(index=True)


class Message(Base):
    """One turn: a message by the customer, the assistant or an operator."""

    __tablename__ = "messages"
    __table_args__ = (Index("ix_messages_conversation", "conversation_id", "id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    message_id: Mapped[str] = mapped_column(String(450), unique=True)
    """Unique per turn, so that a repeated task stores nothing twice."""
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
