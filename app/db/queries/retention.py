"""Deletions of the application's data by age, a batch at a time. Each function returns how many rows it took."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import and_, exists, select
from sqlalchemy.orm import Session

from app.db.models import Conversation, Document, Lead, Message, Report, WebhookDelivery, WebhookEvent
from app.schemas.document import DocumentState
from laneway.platform.db.queries.retention import delete_batch

PROCESSED: Final = "processed"
"""The one state in which a webhook delivery is done with."""


def delete_messages(session: Session, *, before: datetime, limit: int) -> int:
    """Messages of conversations in which nothing happened since then."""
    silent = select(Conversation.id).where(Conversation.updated_at < before)
    return delete_batch(session, Message.id, Message.conversation_id.in_(silent), limit)


def delete_conversations(session: Session, *, before: datetime, limit: int) -> int:
    """Conversations in which nothing happened since then; what is left of them goes with them (ON DELETE CASCADE)."""
    return delete_batch(session, Conversation.id, Conversation.updated_at < before, limit)


def delete_deliveries(session: Session, *, before: datetime, limit: int) -> int:
    """Webhook deliveries that were processed before then; never one that still waits for it."""
    old = and_(WebhookDelivery.state == PROCESSED, WebhookDelivery.processed_at < before)
    return delete_batch(session, WebhookDelivery.id, old, limit)


def delete_events(session: Session, *, before: datetime, limit: int) -> int:
    """Webhook events from before then, except those whose delivery is still to be processed."""
    waiting = exists().where(WebhookDelivery.id == WebhookEvent.delivery_id, WebhookDelivery.state != PROCESSED)
    return delete_batch(session, WebhookEvent.id, and_(WebhookEvent.created_at < before, ~waiting), limit)


def delete_leads(session: Session, *, before: datetime, limit: int) -> int:
    """Leads that nobody has changed since then, with what the local CRM has of them (ON DELETE CASCADE)."""
    return delete_batch(session, Lead.id, Lead.updated_at < before, limit)


def delete_documents(session: Session, *, before: datetime, limit: int) -> int:
    """Documents that never became passages, and whose last ingestion ended before then."""
    ended = Document.state.in_((DocumentState.FAILED, DocumentState.CANCELLED))
    return delete_batch(
        session, Document.id, and_(ended, Document.passage_count == 0, Document.updated_at < before), limit
    )


def delete_reports(session: Session, *, before: datetime, limit: int) -> int:
    """Reports computed before then."""
    return delete_batch(session, Report.id, Report.created_at < before, limit)
