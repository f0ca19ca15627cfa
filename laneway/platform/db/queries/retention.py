"""Deletes rows from before a time, in batches. Each function handles at most `limit` rows and returns how many.

Rows that another transaction has locked are skipped, so that two runs of retention never wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, String, and_, cast, delete, exists, func, null, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, load_only

from laneway.platform.db.models import (
    Alert,
    OutboundDelivery,
    OutboundEndpoint,
    TaskAttempt,
    TaskRun,
    TaskSignal,
    TaskStep,
    Worker,
    WorkflowRun,
)
from laneway.platform.db.queries.deletions import note_deletion
from laneway.platform.db.queries.outbound_webhooks import DISABLED, OPERATOR
from laneway.schemas.task import FINISHED, TaskState
from laneway.schemas.workflow_run import RUN_OVER

ERASED_STATES: Final = (TaskState.COMPLETED, TaskState.CANCELLED, TaskState.EXPIRED)
"""States of tasks whose contents are erased. Failed tasks and dead letters keep what a review and a retry need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTasks:
    """Selects tasks that ended in a state: those of some names, of one queue, or of all but some names and queues."""

    state: TaskState
    names: tuple[str, ...] = ()
    queue: str | None = None
    other_than_names: tuple[str, ...] = ()
    other_than_queues: tuple[str, ...] = ()

    @property
    def clause(self) -> ColumnElement[bool]:
        """The selection as a condition."""
        parts = [TaskRun.state == self.state]
        if self.names:
            parts.append(TaskRun.name.in_(self.names))
        if self.queue is not None:
            parts.append(TaskRun.queue == self.queue)
        if self.other_than_names:
            parts.append(TaskRun.name.not_in(self.other_than_names))
        if self.other_than_queues:
            parts.append(TaskRun.queue.not_in(self.other_than_queues))
        return and_(*parts)


def delete_tasks(
    session: Session, *, before: datetime, limit: int, which: Sequence[FinishedTasks] | None = None
) -> int:
    """Delete tasks that ended before `before`, dead letters included; never an unfinished one.

    `which`: only these; None: all.
    """
    selected = TaskRun.state.in_(FINISHED) if which is None else or_(*(part.clause for part in which))
    return delete_batch(session, TaskRun.seq, _ended_before(selected, before), limit)


def count_ended(session: Session, *, before: datetime, which: FinishedTasks | None = None) -> int:
    """The number of tasks that ended before `before`. `which`: only these; None: all."""
    selected = TaskRun.state.in_(FINISHED) if which is None else which.clause
    statement = select(func.count()).select_from(TaskRun).where(_ended_before(selected, before))
    return session.scalar(statement) or 0


def stored_payloads(session: Session, *, like: str) -> Sequence[dict[str, Any]]:
    """The payloads whose JSON has this one field at its beginning."""
    return session.scalars(
        select(TaskRun.payload).where(cast(TaskRun.payload, String).startswith(f'{{"{like}"', autoescape=True))
    ).all()


def stored_payload_page(session: Session, *, like: str, after: int, limit: int) -> list[TaskRun]:
    """Rows after this `seq` whose payload is JSON with this one field at its beginning; only what names them is read.

    The rows belong to no session.
    """
    is_like = cast(TaskRun.payload, String).startswith(f'{{"{like}"', autoescape=True)
    rows = select(TaskRun).options(load_only(TaskRun.seq, TaskRun.id, TaskRun.state, TaskRun.payload))
    found = session.scalars(rows.where(is_like, TaskRun.seq > after).order_by(TaskRun.seq).limit(limit)).all()
    session.expunge_all()
    return list(found)


def clear_tasks(session: Session, *, states: Sequence[TaskState], before: datetime, limit: int) -> int:
    """Delete tasks that ended in these states before `before`."""
    return delete_batch(session, TaskRun.seq, _ended_before(TaskRun.state.in_(states), before), limit)


def erase_task_contents(session: Session, *, before: datetime, limit: int) -> int:
    """Erase payload, result, tracebacks, steps and signals of tasks of `ERASED_STATES` that ended before `before`."""
    filled = or_(
        cast(TaskRun.payload, String) != "{}",
        TaskRun.result.is_not(None),
        TaskRun.traceback.is_not(None),
        exists().where(TaskStep.task_id == TaskRun.id),
        exists().where(TaskSignal.task_id == TaskRun.id),
        exists().where(TaskAttempt.task_id == TaskRun.id, TaskAttempt.traceback.is_not(None)),
    )
    ids = _lock(session, TaskRun.seq, and_(_ended_before(TaskRun.state.in_(ERASED_STATES), before), filled), limit)
    if ids:
        # null(): a plain None would be stored as JSON's null
        contents = update(TaskRun).where(TaskRun.seq.in_(ids)).values(payload={}, result=null(), traceback=None)
        names = select(TaskRun.id).where(TaskRun.seq.in_(ids))
        traces = update(TaskAttempt).where(TaskAttempt.task_id.in_(names)).values(traceback=None)
        kept = [delete(table).where(table.task_id.in_(names)) for table in (TaskStep, TaskSignal)]
        for statement in (contents, traces, *kept):
            session.execute(statement.execution_options(synchronize_session=False))
    return len(ids)


def delete_outbound_deliveries(session: Session, *, before: datetime, limit: int) -> int:
    """Delete outbound webhooks that were last attempted before `before`, with their attempts (ON DELETE CASCADE)."""
    return delete_batch(session, OutboundDelivery.seq, OutboundDelivery.touched_at < before, limit)


def delete_endpoints(session: Session, *, before: datetime, limit: int) -> int:
    """Delete receivers to which nothing was sent since `before`; never one that an operator disabled."""
    by_operator = and_(OutboundEndpoint.state == DISABLED, OutboundEndpoint.reason == OPERATOR)
    return delete_batch(session, OutboundEndpoint.id, and_(OutboundEndpoint.seen_at < before, ~by_operator), limit)


def delete_workflows(session: Session, *, before: datetime, limit: int) -> int:
    """Delete workflows that ended before `before`, with steps, signals and metrics (ON DELETE CASCADE).

    A workflow that has not ended is never deleted.
    """
    return delete_batch(
        session, WorkflowRun.seq, and_(WorkflowRun.state.in_(RUN_OVER), WorkflowRun.finished_at < before), limit
    )


def delete_alerts(session: Session, *, before: datetime, limit: int) -> int:
    """Delete alerts that were closed before `before`; never an open one."""
    return delete_batch(session, Alert.id, Alert.closed_at < before, limit)


def delete_workers(session: Session, *, before: datetime, limit: int) -> int:
    """Delete workers that have not reported since `before`."""
    return delete_batch(session, Worker.id, Worker.seen_at < before, limit)


def _ended_before(is_ended: ColumnElement[bool], before: datetime) -> ColumnElement[bool]:
    return and_(is_ended, TaskRun.finished_at < before)


def delete_batch(session: Session, key: InstrumentedAttribute[Any], old: ColumnElement[bool], limit: int) -> int:
    """Delete at most `limit` rows for which `old` is true, in the order of `key`; returns how many."""
    ids = _lock(session, key, old, limit)
    if ids:
        if key.class_ is TaskRun:
            note_deletion(session, key.in_(ids))
        rows = delete(key.class_).where(key.in_(ids))  # pyright: ignore[reportArgumentType] - never an alias here
        session.execute(rows.execution_options(synchronize_session=False))
    return len(ids)


def _lock(session: Session, key: InstrumentedAttribute[Any], old: ColumnElement[bool], limit: int) -> Sequence[Any]:
    return session.scalars(select(key).where(old).order_by(key).limit(limit).with_for_update(skip_locked=True)).all()
