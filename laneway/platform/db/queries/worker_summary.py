"""Queries over what one worker did since an event of the history."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, func, literal, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskAttempt, TaskEvent
from laneway.platform.db.queries.durations import TOTAL, Measured, between, measure

START = "begin"
"""The kind of the event that starts an attempt."""


def outcomes(session: Session, worker: str, *, after: int) -> dict[str, int]:
    """Outcome → number of attempts that the worker started after that event; "": attempts without an outcome."""
    statement = select(TaskAttempt.outcome, func.count()).where(_started_by(worker, after=after))
    return {outcome or "": count for outcome, count in session.execute(statement.group_by(TaskAttempt.outcome))}


def times(session: Session, worker: str, *, after: int) -> Measured | None:
    """The durations of the attempts that the worker started after that event and ended itself."""
    ended = and_(_started_by(worker, after=after), TaskAttempt.outcome.is_not(None), TaskAttempt.outcome != "lost")
    took = between(TaskAttempt.started_at, TaskAttempt.ended_at)
    return measure(session, select(literal(TOTAL).label("name"), took).where(ended)).get(TOTAL)


def _started_by(worker: str, *, after: int) -> ColumnElement[bool]:
    """A condition on the order of events and not on times, which several clocks may have written."""
    started = exists().where(
        TaskEvent.task_id == TaskAttempt.task_id,
        TaskEvent.attempt == TaskAttempt.number,
        TaskEvent.kind == START,
        TaskEvent.seq > after,
    )
    return and_(TaskAttempt.worker == worker, started)
