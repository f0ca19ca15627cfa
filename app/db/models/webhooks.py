"""The tables of inbound webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, Id


class WebhookDelivery(Base):
    """One verified request from a platform, stored as received, without secrets."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index("ix_webhook_deliveries_state", "state", "received_at"),)

    id: Mapped[str] = mapped_column(String(155), primary_key=True)
    """Derived from source and body, so that a repeated request is the same delivery."""
    source: Mapped[str] = mapped_column(String(64))
    body: Mapped[Any] = mapped_column(JSON, nullable=False)
    """A JSON object, or an array of objects."""
    state: Mapped[str] = mapped_column(String(16))
    """queued or processed"""
    received_at: Mapped[datetime]
    processed_at: Mapped[datetime | None]


class WebhookEvent(Base):
    """One event of a delivery. Each event id of a source is stored once."""

    __tablename__ = "webhook_events"
    __table_args__ = (
        Index("uq_webhook_events", "source", "event_id", unique=True),
        Index("ix_webhook_events_state", "state", "id"),
        Index("ix_webhook_events_figures", "source", "name", "state"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    source: Mapped[str] = mapped_column(String(64))
    event_id: Mapped[str] = mapped_column(String(300))
    name: Mapped[str] = mapped_column(String(200))
    """What the source calls this kind of event; empty if it does not say."""
    kind: Mapped[str] = mapped_column(String(64))
    delivery_id: Mapped[str] = mapped_column(String(155), index=True)
    data: Mapped[dict[str, Any]]
    """The fields of the event, bounded; the delivery has the whole of it."""
    problems: Mapped[list[Any]]
    """A sentence about each field that could not be read."""
    state: Mapped[str] = mapped_column(String(16))
    """handled, unhandled, quarantined, discarded or test"""
    rule: Mapped[str | None] = mapped_column(String(64))
    """The rule of the mapping that decided."""
    reason: Mapped[str | None] = mapped_column(Text)
    """Why the event is in quarantine."""
    task_id: Mapped[str | None] = mapped_column(String(155))
    created_at: Mapped[datetime] = mapped_column(index=True)


class WebhookMapping(Base):
    """The mapping that was valid last; one row."""

    __tablename__ = "webhook_mapping"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    file: Mapped[str] = mapped_column(Text)
    content: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))
    stored_at: Mapped[datetime]
