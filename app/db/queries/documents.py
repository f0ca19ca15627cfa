"""Queries over documents and their ingestions; `passages` has those over passages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.models import Document
from app.schemas.document import DocumentIngestion, DocumentState
from laneway.platform.db.models import TaskRun
from laneway.schemas.task import UNFINISHED


def find(session: Session, id: str, *, lock: bool = False) -> Document | None:
    """The document with this id. With `lock` nobody else can change it until the transaction ends."""
    if "\x00" in id:
        return None  # PostgreSQL rejects a null byte even in a comparison.
    statement = select(Document).where(Document.id == id)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def mark_queued(document: Document, ingestion: DocumentIngestion, *, task_id: str, now: datetime) -> None:
    """Note that this ingestion of the document is queued. The stored passages stay."""
    document.state, document.task_id, document.updated_at = DocumentState.QUEUED, task_id, now
    document.user_id, document.file_name = ingestion.user_id, ingestion.file_name
    document.object_key, document.callback_url = ingestion.r2_key, ingestion.callback_url
    document.error = document.error_type = None


def set_state(
    document: Document, state: DocumentState, *, now: datetime, error_type: str | None = None, error: str | None = None
) -> None:
    """Set the state of the document's newest ingestion, and its error if it failed."""
    document.state, document.updated_at = state, now
    document.error_type, document.error = error_type, error


def page(
    session: Session, *, state: DocumentState | None, user_id: str | None, after: str | None, limit: int
) -> Sequence[Document]:
    """Documents ordered by id, starting after the id `after`."""
    statement = select(Document).order_by(Document.id).limit(limit)
    if state is not None:
        statement = statement.where(Document.state == state)
    if user_id is not None:
        statement = statement.where(Document.user_id == user_id)
    return session.scalars(statement.where(Document.id > after) if after is not None else statement).all()


def count_by_state(session: Session) -> dict[str, int]:
    """The number of documents by state."""
    rows = session.execute(select(Document.state, func.count()).group_by(Document.state))
    return {row[0]: row[1] for row in rows}


def unfinished_tasks(session: Session, key: str) -> Sequence[str]:
    """The tasks of an ordering key that have not ended, newest first."""
    statement = select(TaskRun.id).where(TaskRun.key == key, TaskRun.state.in_(UNFINISHED))
    return session.scalars(statement.order_by(TaskRun.seq.desc())).all()
