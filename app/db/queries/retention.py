"""Deletions of the application's data by age, one batch per call. Each function returns the number of deleted rows."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import and_, exists, select
from sqlalchemy.orm import Session

from app.db.models import Conversation, Document, Lead, Message, Report, WebhookDelivery, WebhookEvent
from app.schemas.document import DocumentState
from laneway.platform.db.queries.retention import delete_batch

PROCESSED: Final = "processed"
"""The state of a webhook delivery that needs no more work."""


def delete_messages(session: Session, *, before: datetime, limit: int) -> int:
    """Delete messages of conversations that did not change since `before`."""
    silent = select(Conversation.id).where(Conversation.updated_at < before)
    return delete_batch(session, Message.id, Message.conversation_id.in_(silent), limit)


def delete_conversations(session: Session, *, before: datetime, limit: int) -> int:
    """Delete conversations that did not change since `before`, with their remaining rows (ON DELETE CASCADE)."""
    return delete_batch(session, Conversation.id, Conversation.updated_at < before, limit)


def delete_deliveries(session: Session, *, before: datetime, limit: int) -> int:
    """Delete webhook deliveries that were processed before `before`; never one that still waits."""
    old = and_(WebhookDelivery.state == PROCESSED, WebhookDelivery.processed_at < before)
    return delete_batch(session, WebhookDelivery.id, old, limit)


def delete_events(session: Session, *, before: datetime, limit: int) -> int:
    """Delete webhook events from before `before`, except those whose delivery still waits."""
    waiting = exists().where(WebhookDelivery.id == WebhookEvent.delivery_id, WebhookDelivery.state != PROCESSED)
    return delete_batch(session, WebhookEvent.id, and_(WebhookEvent.created_at < before, ~waiting), limit)


def delete_leads(session: Session, *, before: datetime, limit: int) -> int:
    """Delete leads that did not change since `before`, with their records in the local CRM (ON DELETE CASCADE)."""
    return delete_batch(session, Lead.id, Lead.updated_at < before, limit)


def delete_documents(session: Session, *, before: datetime, limit: int) -> int:
    """Delete documents without passages whose last ingestion failed or was cancelled before `before`."""
    ended = Document.state.in_((DocumentState.FAILED, DocumentState.CANCELLED))
    return delete_batch(
        session, Document.id, and_(ended, Document.passage_count == 0, Document.updated_at < before), limit
    )


def delete_reports(session: Session, *, before: datetime, limit: int) -> int:
    """Delete reports that were computed before `before`."""
    return delete_batch(session, Report.id, Report.created_at < before, limit)
