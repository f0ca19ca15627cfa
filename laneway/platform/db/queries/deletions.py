"""What is kept of tasks when they are deleted."""

from __future__ import annotations

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from laneway.platform.db.queries import batches, event_marks


def note_deletion(session: Session, tasks: ColumnElement[bool]) -> None:
    """Keep the mark of their events, and count them in their batches.

    Call it before these tasks, which have ended, are deleted, in the same transaction.
    """
    event_marks.note_deletion(session, tasks)
    batches.note_gone(session, tasks)
