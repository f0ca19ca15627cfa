"""Deletions by age, a batch at a time. Each function takes at most `limit` rows and gives back how many it took.

Rows that somebody else holds are left for the next time, so that two sweeps never wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, String, and_, cast, delete, exists, null, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.models import (
    Alert,
    CallbackDelivery,
    CallbackEndpoint,
    Conversation,
    Document,
    Lead,
    Message,
    Report,
    TaskAttempt,
    TaskRun,
    TaskStep,
    WebhookDelivery,
    WebhookEvent,
    Worker,
    WorkflowRun,
)
from app.db.repositories.callbacks import DISABLED, OPERATOR
from app.schemas.document import DocumentState
from app.schemas.task import FINISHED, State
from app.schemas.workflow_run import RUN_OVER

PROCESSED: Final = "processed"
"""The one state in which a webhook delivery is done with."""
BLANKED: Final = (State.COMPLETED, State.CANCELLED, State.EXPIRED)
"""Tasks nobody will look into again; failed ones and dead letters keep what is needed to review and retry them."""


def delete_tasks(session: Session, *, before: datetime, limit: int) -> int:
    """Tasks, dead letters too, that ended before then; never an unfinished one."""
    return _delete(session, TaskRun.seq, _over(TaskRun.state.in_(FINISHED), before), limit)


def clear_tasks(session: Session, *, states: Sequence[State], before: datetime, limit: int) -> int:
    """Tasks that ended in these states before then."""
    return _delete(session, TaskRun.seq, _over(TaskRun.state.in_(states), before), limit)


def blank_tasks(session: Session, *, before: datetime, limit: int) -> int:
    """Take payload, result, tracebacks and steps from tasks that completed, expired or were cancelled before then."""
    filled = or_(
        cast(TaskRun.payload, String) != "{}", TaskRun.result.is_not(None), TaskRun.traceback.is_not(None),
        exists().where(TaskStep.task_id == TaskRun.id),
        exists().where(TaskAttempt.task_id == TaskRun.id, TaskAttempt.traceback.is_not(None)),
    )  # fmt: skip
    ids = _locked(session, TaskRun.seq, and_(_over(TaskRun.state.in_(BLANKED), before), filled), limit)
    if ids:
        # null(): a plain None would be stored as JSON's null
        blank = update(TaskRun).where(TaskRun.seq.in_(ids)).values(payload={}, result=null(), traceback=None)
        names = select(TaskRun.id).where(TaskRun.seq.in_(ids))
        traces = update(TaskAttempt).where(TaskAttempt.task_id.in_(names)).values(traceback=None)
        for statement in (blank, traces, delete(TaskStep).where(TaskStep.task_id.in_(names))):
            session.execute(statement.execution_options(synchronize_session=False))
    return len(ids)


def delete_messages(session: Session, *, before: datetime, limit: int) -> int:
    """Messages of conversations in which nothing happened since then."""
    silent = select(Conversation.id).where(Conversation.updated_at < before)
    return _delete(session, Message.id, Message.conversation_id.in_(silent), limit)


def delete_conversations(session: Session, *, before: datetime, limit: int) -> int:
    """Conversations in which nothing happened since then; what is left of them goes with them (ON DELETE CASCADE)."""
    return _delete(session, Conversation.id, Conversation.updated_at < before, limit)


def delete_deliveries(session: Session, *, before: datetime, limit: int) -> int:
    """Webhook deliveries that were processed before then; never one that still waits for it."""
    old = and_(WebhookDelivery.state == PROCESSED, WebhookDelivery.processed_at < before)
    return _delete(session, WebhookDelivery.id, old, limit)


def delete_events(session: Session, *, before: datetime, limit: int) -> int:
    """Webhook events from before then, except those whose delivery is still to be processed."""
    waiting = exists().where(WebhookDelivery.id == WebhookEvent.delivery_id, WebhookDelivery.state != PROCESSED)
    return _delete(session, WebhookEvent.id, and_(WebhookEvent.created_at < before, ~waiting), limit)


def delete_callbacks(session: Session, *, before: datetime, limit: int) -> int:
    """Outbound webhooks that were last attempted before then, with their attempts (ON DELETE CASCADE)."""
    return _delete(session, CallbackDelivery.seq, CallbackDelivery.touched_at < before, limit)


def delete_endpoints(session: Session, *, before: datetime, limit: int) -> int:
    """Receivers that nothing was to be sent to since then; never one that somebody disabled by hand."""
    by_hand = and_(CallbackEndpoint.state == DISABLED, CallbackEndpoint.reason == OPERATOR)
    return _delete(session, CallbackEndpoint.id, and_(CallbackEndpoint.seen_at < before, ~by_hand), limit)


def delete_leads(session: Session, *, before: datetime, limit: int) -> int:
    """Leads that nobody has changed since then, with what the local CRM has of them (ON DELETE CASCADE)."""
    return _delete(session, Lead.id, Lead.updated_at < before, limit)


def delete_workflows(session: Session, *, before: datetime, limit: int) -> int:
    """Workflows that ended before then, with steps, signals and figures (ON DELETE CASCADE); never one that goes on."""
    return _delete(session, WorkflowRun.seq, and_(WorkflowRun.state.in_(RUN_OVER), WorkflowRun.finished_at < before),
                   limit)  # fmt: skip


def delete_documents(session: Session, *, before: datetime, limit: int) -> int:
    """Documents that never became passages, and whose last ingestion ended before then."""
    ended = Document.state.in_((DocumentState.FAILED, DocumentState.CANCELLED))
    return _delete(session, Document.id, and_(ended, Document.passage_count == 0, Document.updated_at < before), limit)


def delete_reports(session: Session, *, before: datetime, limit: int) -> int:
    """Reports computed before then."""
    return _delete(session, Report.id, Report.created_at < before, limit)


def delete_alerts(session: Session, *, before: datetime, limit: int) -> int:
    """Alerts closed before then; never an open one."""
    return _delete(session, Alert.id, Alert.closed_at < before, limit)


def delete_workers(session: Session, *, before: datetime, limit: int) -> int:
    """Workers that have not reported since then."""
    return _delete(session, Worker.name, Worker.seen_at < before, limit)


def _over(ended: ColumnElement[bool], before: datetime) -> ColumnElement[bool]:
    return and_(ended, TaskRun.finished_at < before)


def _delete(session: Session, key: InstrumentedAttribute[Any], old: ColumnElement[bool], limit: int) -> int:
    ids = _locked(session, key, old, limit)
    if ids:
        rows = delete(key.class_).where(key.in_(ids))  # pyright: ignore[reportArgumentType] - never an alias here
        session.execute(rows.execution_options(synchronize_session=False))
    return len(ids)


def _locked(session: Session, key: InstrumentedAttribute[Any], old: ColumnElement[bool], limit: int) -> Sequence[Any]:
    return session.scalars(select(key).where(old).order_by(key).limit(limit).with_for_update(skip_locked=True)).all()
