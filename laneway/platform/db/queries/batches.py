"""Queries over batches of tasks.

Whoever ends, retries or deletes tasks of a batch adds a check in the same transaction, and never locks the batch. A
relay takes the checks later, locks the batch and looks (`laneway.platform.batches.settling`). Whoever adds tasks holds
a shared lock on the batch, so that it does not end meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from laneway.platform.batch_errors import BatchOver
from laneway.platform.db.models import BatchCallback, BatchCheck, TaskBatch, TaskRun
from laneway.platform.errors import NotFound
from laneway.schemas.task import FAILURES, FINISHED, UNFINISHED, TaskState

_ADD_CHECK: Final = insert(cast("Table", BatchCheck.__table__))
IDS_AT_ONCE: Final = 500
_INSERT: Final = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
GONE: Final = {
    TaskState.COMPLETED: TaskBatch.gone_completed,
    TaskState.FAILED: TaskBatch.gone_failed,
    TaskState.DEAD_LETTER: TaskBatch.gone_failed,
    TaskState.CANCELLED: TaskBatch.gone_cancelled,
    TaskState.EXPIRED: TaskBatch.gone_cancelled,
}
"""The final state of a task → where it is counted once it is deleted."""


def find(session: Session, id: str) -> TaskBatch | None:
    """The batch with this id, or None."""
    if "\x00" in id:
        return None  # PostgreSQL refuses to compare a NUL character
    return session.scalars(select(TaskBatch).where(TaskBatch.id == id)).one_or_none()


def get(session: Session, id: str, *, lock: bool = False) -> TaskBatch:
    """As `find`. `lock`: nobody else changes it, or adds tasks, before the transaction ends. Raises NotFound."""
    batch = find(session, id)
    if batch is not None and lock:
        statement = select(TaskBatch).where(TaskBatch.id == id).with_for_update()
        batch = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    if batch is None:
        raise NotFound("batch", id)
    return batch


def add(session: Session, values: dict[str, Any]) -> bool:
    """Insert a batch; False when its id is in use."""
    new = _INSERT[session.get_bind().dialect.name](TaskBatch).values(values)
    added = new.on_conflict_do_nothing(index_elements=[TaskBatch.id]).returning(TaskBatch.seq)
    return session.execute(added).first() is not None


def add_callbacks(session: Session, callbacks: Sequence[dict[str, Any]]) -> None:
    """Insert the callbacks of a new batch."""
    if callbacks:
        session.connection().execute(insert(cast("Table", BatchCallback.__table__)), callbacks)


def callbacks_of(session: Session, ids: Collection[str]) -> Sequence[BatchCallback]:
    """The callbacks of these batches."""
    wanted = select(BatchCallback).where(BatchCallback.batch_id.in_(ids))
    return session.scalars(wanted.order_by(BatchCallback.batch_id, BatchCallback.event)).all()


def callback(session: Session, id: str, event: str) -> BatchCallback | None:
    """The callback of a batch for an event."""
    return session.get(BatchCallback, (id, event))


def page(session: Session, *, before: int | None, limit: int, unfinished: bool) -> Sequence[TaskBatch]:
    """Batches, newest first. `before`: the `seq` of the last one of the page before."""
    statement = select(TaskBatch)
    if unfinished:
        statement = statement.where(TaskBatch.finished_at.is_(None))
    if before is not None:
        statement = statement.where(TaskBatch.seq < before)
    return session.scalars(statement.order_by(TaskBatch.seq.desc()).limit(limit)).all()


def hold_open(session: Session, id: str) -> None:
    """Keep a batch from ending before this transaction does, to add tasks to it. Raises NotFound, BatchOver.

    A closed batch takes tasks as long as one of its tasks has not ended.
    """
    statement = select(TaskBatch).where(TaskBatch.id == id).with_for_update(read=True)
    batch = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    if batch is None:
        raise NotFound("batch", id)
    if batch.cancelled_at is not None:
        raise BatchOver(id, "cancelled")
    if batch.closed_at is not None and not has_unfinished(session, id):
        raise BatchOver(id, "over: it is closed, and all its tasks have ended")


def has_all(session: Session, id: str, task_ids: Sequence[str]) -> bool:
    """Whether all of these are tasks of the batch already."""
    for first in range(0, len(task_ids), IDS_AT_ONCE):
        part = set(task_ids[first : first + IDS_AT_ONCE])
        number = select(func.count()).select_from(TaskRun).where(TaskRun.id.in_(part), TaskRun.batch_id == id)
        if session.scalar(number) != len(part):
            return False
    return True


# --- checks


def add_checks(session: Session, runs: Iterable[TaskRun], *, ended: bool) -> None:
    """Have a relay look at the batches of these tasks. `ended`: they have; else they wait again, after a retry."""
    died = dict[str, bool]()
    for run in runs:
        if run.batch_id is not None:
            died[run.batch_id] = died.get(run.batch_id, False) or (ended and run.state in FAILURES)
    if died:
        session.connection().execute(_ADD_CHECK, [{"batch_id": id, "has_died": died[id]} for id in sorted(died)])


def add_check(session: Session, id: str) -> None:
    """Have a relay look at a batch."""
    session.connection().execute(_ADD_CHECK, [{"batch_id": id, "has_died": False}])


def with_checks(session: Session, *, after: str, limit: int) -> Sequence[str]:
    """Batches at which somebody has to look, in the order of their ids, after this one."""
    wanted = select(BatchCheck.batch_id).where(BatchCheck.batch_id > after).distinct()
    return session.scalars(wanted.order_by(BatchCheck.batch_id).limit(limit)).all()


def lock_free(session: Session, id: str) -> TaskBatch | None:
    """Lock a batch; None if it does not exist, or if somebody changes it or adds tasks to it now."""
    statement = select(TaskBatch).where(TaskBatch.id == id).with_for_update(skip_locked=True)
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


def take_checks(session: Session, id: str) -> list[bool]:
    """Delete the checks of a batch; returns for each whether a task has died."""
    taken = delete(BatchCheck).where(BatchCheck.batch_id == id).returning(BatchCheck.has_died)
    return list(session.scalars(taken, execution_options={"synchronize_session": False}))


def overlooked(session: Session, *, after: int, limit: int) -> list[tuple[int, str]]:
    """The `seq` and id of closed batches that should have ended: an older version has ended their last tasks."""
    is_over = and_(TaskBatch.finished_at.is_(None), TaskBatch.closed_at.is_not(None), ~_has_unfinished(TaskBatch.id))
    wanted = select(TaskBatch.seq, TaskBatch.id).where(is_over, TaskBatch.seq > after)
    return [(row.seq, row.id) for row in session.execute(wanted.order_by(TaskBatch.seq).limit(limit))]


# --- its tasks


def _has_unfinished(id: Any) -> ColumnElement[bool]:
    return exists().where(TaskRun.batch_id == id, TaskRun.state.in_(UNFINISHED))


def has_unfinished(session: Session, id: str) -> bool:
    """Whether a task of the batch has not ended."""
    one = select(TaskRun.seq).where(TaskRun.batch_id == id, TaskRun.state.in_(UNFINISHED)).limit(1)
    return session.scalar(one) is not None


def has_uncompleted(session: Session, id: str) -> bool:
    """Whether a task of the batch has ended without being completed."""
    others = [state for state in FINISHED if state != TaskState.COMPLETED]
    one = select(TaskRun.seq).where(TaskRun.batch_id == id, TaskRun.state.in_(others)).limit(1)
    return session.scalar(one) is not None


def unfinished_tasks(session: Session, id: str, *, limit: int) -> Sequence[TaskRun]:
    """Tasks of the batch that have not ended and were not asked to stop."""
    wanted = (TaskRun.batch_id == id, TaskRun.state.in_(UNFINISHED), TaskRun.cancel_requested.is_(False))
    return session.scalars(select(TaskRun).where(*wanted).order_by(TaskRun.seq).limit(limit)).all()


def count_to_stop(session: Session, id: str) -> int:
    """How many tasks of the batch have not ended and were not asked to stop."""
    wanted = (TaskRun.batch_id == id, TaskRun.state.in_(UNFINISHED), TaskRun.cancel_requested.is_(False))
    return session.scalar(select(func.count()).select_from(TaskRun).where(*wanted)) or 0


def counts(session: Session, ids: Collection[str]) -> dict[str, dict[TaskState, int]]:
    """Batch → state → number of its tasks that are not deleted."""
    rows = select(TaskRun.batch_id, TaskRun.state, func.count()).where(TaskRun.batch_id.in_(ids))
    found: dict[str, dict[TaskState, int]] = {id: {} for id in ids}
    for id, state, number in session.execute(rows.group_by(TaskRun.batch_id, TaskRun.state)):
        found[str(id)][TaskState(state)] = number
    return found


def batch_of(session: Session, task_id: str) -> str | None:
    """The batch of a task; None: it belongs to none, or is not known."""
    return session.scalar(select(TaskRun.batch_id).where(TaskRun.id == task_id))


def note_gone(session: Session, tasks: ColumnElement[bool]) -> None:
    """Count tasks of batches that are about to be deleted in this transaction, all of which have ended."""
    wanted = select(TaskRun.batch_id, TaskRun.state).where(tasks, TaskRun.batch_id.is_not(None))
    gone = Counter((row.batch_id, GONE[TaskState(row.state)].key) for row in session.execute(wanted.with_for_update()))
    for (id, column), number in sorted(gone.items()):
        counted = {column: getattr(TaskBatch, column) + number}
        rows = update(TaskBatch).where(TaskBatch.id == id).values(counted)
        session.execute(rows, execution_options={"synchronize_session": False})
    for id in sorted({id for id, _ in gone}):
        add_check(session, id)


# --- retention


def delete_old(session: Session, *, before: datetime, limit: int) -> int:
    """Delete batches without tasks that ended, or were made and never closed, before `before`. Returns how many."""
    last = func.coalesce(TaskBatch.finished_at, TaskBatch.created_at)
    empty = ~exists().where(TaskRun.batch_id == TaskBatch.id)
    old = select(TaskBatch.seq).where(last < before, empty).order_by(TaskBatch.seq).limit(limit)
    seqs = session.scalars(old.with_for_update(skip_locked=True)).all()
    if seqs:
        rows = delete(TaskBatch).where(TaskBatch.seq.in_(seqs))
        session.execute(rows, execution_options={"synchronize_session": False})
    return len(seqs)
