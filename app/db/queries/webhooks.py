"""Queries over webhook deliveries and their events."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import WebhookDelivery, WebhookEvent

QUEUED, PROCESSED = "queued", "processed"


def store(session: Session, id: str, *, source: str, body: dict[str, Any], now: datetime) -> None:
    """Store a delivery unless it is stored already."""
    with suppress(IntegrityError), session.begin_nested():
        session.execute(insert(WebhookDelivery).values(id=id, source=source, body=body, state=QUEUED, received_at=now))


def find(session: Session, id: str) -> WebhookDelivery | None:
    """The delivery with this id."""
    return session.get(WebhookDelivery, id)


def mark_processed(session: Session, id: str, *, now: datetime) -> None:
    """Note that every event of the delivery has its task."""
    session.execute(update(WebhookDelivery).where(WebhookDelivery.id == id).values(state=PROCESSED, processed_at=now))


def add_event(session: Session, **values: Any) -> WebhookEvent:
    """Store an event unless its id is stored already, and return the stored one."""
    with suppress(IntegrityError), session.begin_nested():
        session.execute(insert(WebhookEvent).values(**values))
    return session.scalars(
        select(WebhookEvent).where(WebhookEvent.source == values["source"], WebhookEvent.event_id == values["event_id"])
    ).one()


def set_task(session: Session, event: int, *, task_id: str) -> None:
    """Note the task that follows an event."""
    session.execute(update(WebhookEvent).where(WebhookEvent.id == event).values(task_id=task_id))
