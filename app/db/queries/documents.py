"""Queries over documents and their ingestions; their passages are in `passages`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.models import Document
from app.schemas.document import DocumentIngestion, DocumentState
from laneway.platform.db.models import TaskRun
from laneway.platform.schemas.task import UNFINISHED


def find(session: Session, id: str, *, lock: bool = False) -> Document | None:
    """The document with this id; locked, it cannot change before the transaction ends."""
    if "\x00" in id:
        return None  # PostgreSQL refuses even to compare it
    statement = select(Document).where(Document.id == id)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def note_submission(document: Document, ingestion: DocumentIngestion, *, task_id: str, now: datetime) -> None:
    """Write down that this ingestion of it is queued; what was stored of it before stays."""
    document.state, document.task_id, document.updated_at = DocumentState.QUEUED, task_id, now
    document.user_id, document.file_name = ingestion.user_id, ingestion.file_name
    document.object_key, document.callback_url = ingestion.r2_key, ingestion.callback_url
    document.error = document.error_type = None


def note_end(
    document: Document, state: DocumentState, *, now: datetime, error_type: str | None = None, error: str | None = None
) -> None:
    """Write down how its newest ingestion ended."""
    document.state, document.updated_at = state, now
    document.error_type, document.error = error_type, error


def listed(
    session: Session, *, state: DocumentState | None, user_id: str | None, after: str | None, limit: int
) -> Sequence[Document]:
    """Documents by id, those that come after `after`."""
    statement = select(Document).order_by(Document.id).limit(limit)
    if state is not None:
        statement = statement.where(Document.state == state)
    if user_id is not None:
        statement = statement.where(Document.user_id == user_id)
    return session.scalars(statement.where(Document.id > after) if after is not None else statement).all()


def count_by_state(session: Session) -> dict[str, int]:
    """State → how many documents."""
    rows = session.execute(select(Document.state, func.count()).group_by(Document.state))
    return {row[0]: row[1] for row in rows}


def unfinished_tasks(session: Session, key: str) -> Sequence[str]:
    """The tasks of an ordering key that are not over, the newest first."""
    statement = select(TaskRun.id).where(TaskRun.key == key, TaskRun.state.in_(UNFINISHED))
    return session.scalars(statement.order_by(TaskRun.seq.desc())).all()
