"""Queries over what one worker did since a place in the history."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, func, literal, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskAttempt, TaskEvent
from laneway.platform.db.queries.durations import TOTAL, Measured, between, measure

BEGIN = "begin"


def outcomes(session: Session, worker: str, *, after: int) -> dict[str, int]:
    """Outcome -> attempts that the worker began behind that event; those that have none are under the empty name."""
    statement = select(TaskAttempt.outcome, func.count()).where(_begun(worker, after=after))
    return {outcome or "": count for outcome, count in session.execute(statement.group_by(TaskAttempt.outcome))}


def times(session: Session, worker: str, *, after: int) -> Measured | None:
    """How long those attempts took that the worker itself ended."""
    ended = and_(_begun(worker, after=after), TaskAttempt.outcome.is_not(None), TaskAttempt.outcome != "lost")
    took = between(TaskAttempt.started_at, TaskAttempt.ended_at)
    return measure(session, select(literal(TOTAL).label("name"), took).where(ended)).get(TOTAL)


def _begun(worker: str, *, after: int) -> ColumnElement[bool]:
    """By the order of the history, and not by times, which several clocks may have written."""
    began = exists().where(
        TaskEvent.task_id == TaskAttempt.task_id,
        TaskEvent.attempt == TaskAttempt.number,
        TaskEvent.kind == BEGIN,
        TaskEvent.seq > after,
    )
    return and_(TaskAttempt.worker == worker, began)
