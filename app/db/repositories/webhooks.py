"""Queries over webhook deliveries and the events in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import WebhookDelivery, WebhookEvent

STORED, QUEUED, PROCESSED = "stored", "queued", "processed"


def store(session: Session, id: str, *, source: str, body: dict[str, Any], now: datetime) -> str:
    """Store a delivery, unless it is stored; gives back its state."""
    try:
        with session.begin_nested():
            session.execute(
                insert(WebhookDelivery).values(id=id, source=source, body=body, state=STORED, received_at=now)
            )
    except IntegrityError:
        known = session.get(WebhookDelivery, id)
        return known.state if known else STORED
    return STORED


def find(session: Session, id: str) -> WebhookDelivery | None:
    """The delivery with this id."""
    return session.get(WebhookDelivery, id)


def mark_queued(session: Session, id: str) -> None:
    """Note that its task is accepted."""
    session.execute(
        update(WebhookDelivery).where(WebhookDelivery.id == id, WebhookDelivery.state == STORED).values(state=QUEUED)
    )


def mark_processed(session: Session, id: str, *, now: datetime) -> None:
    """Note that every event in it has its task."""
    session.execute(update(WebhookDelivery).where(WebhookDelivery.id == id).values(state=PROCESSED, processed_at=now))


def unqueued(session: Session, *, before: datetime, limit: int = 100) -> Sequence[tuple[str, str]]:
    """(id, source) of deliveries that were stored before that moment and could not be queued."""
    rows = session.execute(
        select(WebhookDelivery.id, WebhookDelivery.source)
        .where(WebhookDelivery.state == STORED, WebhookDelivery.received_at < before)
        .limit(limit)
    )
    return [(id, source) for id, source in rows]


def add_event(session: Session, **values: Any) -> WebhookEvent:
    """Store an event, unless its id is stored already; gives back what is stored."""
    try:
        with session.begin_nested():
            session.execute(insert(WebhookEvent).values(**values))
    except IntegrityError:
        pass
    return session.scalars(
        select(WebhookEvent).where(WebhookEvent.source == values["source"], WebhookEvent.event_id == values["event_id"])
    ).one()


def set_task(session: Session, event: int, *, task_id: str) -> None:
    """Note which task an event led to."""
    session.execute(update(WebhookEvent).where(WebhookEvent.id == event).values(task_id=task_id))
