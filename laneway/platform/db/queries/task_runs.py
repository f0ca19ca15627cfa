"""Queries over the rows of tasks. A change of state is a conditional UPDATE, so a second equal change has no effect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_dict

from laneway.platform.db.models import TaskAttempt, TaskRun
from laneway.platform.db.queries import batches
from laneway.platform.db.queries.held import HELD
from laneway.platform.errors import UnknownTask
from laneway.schemas.task import SENT, UNFINISHED, WAITING, TaskState

PAGE = 200
RELIED_ON = timedelta(microseconds=1)
"""Added to `published_at` when a duplicate submit relies on the row, so that the first sender cannot withdraw it."""

_TABLE = cast("Table", TaskRun.__table__)
_ADD = {
    dialect: insert(_TABLE).on_conflict_do_nothing(index_elements=[_TABLE.c.id]).returning(_TABLE.c.id, _TABLE.c.seq)
    for dialect, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
"""Built once: building a statement costs more than executing it. An insert by the ORM costs three times as much."""
_SET_TIMES = (
    update(_TABLE)
    .where(_TABLE.c.seq == bindparam("of"))
    .values(due_at=bindparam("due"), expires_at=bindparam("expiry"))
)
_RESTARTED: dict[str, Any] = {
    "state": TaskState.PENDING,
    "attempts": 0,
    "progress": 0,
    "cancel_requested": False,
    **dict.fromkeys(("progress_message", "result", "raw", "error", "error_type", "error_group", "traceback", "worker")),
    **dict.fromkeys(("started_at", "finished_at", "due_at", "expires_at", "trashed_at")),
}
"""What a restart sets in every row."""
_NEW: dict[str, Any] = {"progress": 0, "attempts": 0, "attempts_before": 0, "cancel_requested": False}


def add(session: Session, rows: Sequence[dict[str, Any]]) -> list[TaskRun]:
    """Insert new tasks, in this order; returns those whose ids were free.

    The returned objects do not belong to the session: changing them changes no row.
    """
    connection = session.connection()
    added = connection.execute(_ADD[connection.dialect.name], [_NEW | row for row in rows])
    seqs = {row.id: row.seq for row in added}
    first = {row["id"]: row for row in reversed(rows)}
    return [_row(_NEW | first[id] | {"seq": seq}) for id, seq in sorted(seqs.items(), key=itemgetter(1))]


def _row(values: dict[str, Any]) -> TaskRun:
    """Make a row object with these values. Setting attributes one by one would be slower, because each is tracked."""
    run = TaskRun()
    instance_dict(run).update(values)
    return run


def find(session: Session, id: str, *, lock: bool = False) -> TaskRun | None:
    """Return the task with this id, or None. With `lock` nobody else can change it before the transaction ends."""
    if "\x00" in id:
        return None  # PostgreSQL refuses to compare a NUL character
    statement = select(TaskRun).where(TaskRun.id == id)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def get(session: Session, id: str, *, lock: bool = False) -> TaskRun:
    """As `find`. Raises UnknownTask."""
    run = find(session, id, lock=lock)
    if run is None:
        raise UnknownTask(id)
    return run


def withdraw(session: Session, run: TaskRun) -> bool:
    """Delete a task that the broker did not take; False when a worker has it or a duplicate submit relies on it."""
    untouched = and_(TaskRun.id == run.id, TaskRun.published_at == run.published_at)
    return _changed(
        session.execute(delete(TaskRun).where(untouched, TaskRun.state.in_(WAITING), TaskRun.attempts == 0))
    )


def mark_relied_on(session: Session, run: TaskRun) -> None:
    """Record that a duplicate submit relies on this task: its first submitter can no longer withdraw it."""
    untouched = (TaskRun.id == run.id, TaskRun.state.in_(SENT), TaskRun.published_at == run.accepted_at)
    session.execute(update(TaskRun).where(*untouched).values(published_at=run.accepted_at + RELIED_ON))


def count_unfinished(session: Session, key: str) -> int:
    """The number of tasks of an ordering key that are not finished."""
    return (
        session.scalar(
            select(func.count()).select_from(TaskRun).where(TaskRun.key == key, TaskRun.state.in_(UNFINISHED))
        )
        or 0
    )


def request_cancel(session: Session, id: str) -> bool:
    """Ask a running task to stop; False when it does not run."""
    return _move(session, id, TaskState.PROCESSING, cancel_requested=True)


def restart(session: Session, run: TaskRun, *, sent_at: datetime | None) -> None:
    """Reset a finished task to pending. The numbers of its attempts continue; its retries are counted from 0 again."""
    batches.add_checks(session, [run], ended=False)
    for name, value in _restarted(run, sent_at=sent_at).items():
        setattr(run, name, value)


def restart_many(session: Session, runs: Sequence[TaskRun], *, state: TaskState, sent_at: datetime | None) -> None:
    """As `restart`, for rows that this transaction has locked, with this state. The objects leave the session."""
    batches.add_checks(session, runs, ended=False)
    common = {"attempts_before": TaskRun.attempts_before + TaskRun.attempts, "result": null()}
    values = _RESTARTED | {"state": state, "published_at": sent_at} | common
    for run in runs:
        session.expunge(run)
        instance_dict(run).update(_restarted(run, sent_at=sent_at), state=state)
    rows = update(TaskRun).where(TaskRun.seq.in_([run.seq for run in runs])).values(values)
    session.execute(rows, execution_options={"synchronize_session": False})


def set_times(session: Session, runs: Sequence[TaskRun]) -> None:
    """Store the due time and the expiry of these rows."""
    if runs:
        rows = [{"of": run.seq, "due": run.due_at, "expiry": run.expires_at} for run in runs]
        session.connection().execute(_SET_TIMES, rows)


def _restarted(run: TaskRun, *, sent_at: datetime | None) -> dict[str, Any]:
    return _RESTARTED | {"attempts_before": run.attempts_before + run.attempts, "published_at": sent_at}


def end_waiting(session: Session, id: str, *waiting: TaskState, state: TaskState, now: datetime) -> bool:
    """End a task in one of the states `waiting` (default: every waiting state); False when it is in another state."""
    return _move(session, id, *waiting or WAITING, state=state, finished_at=now, due_at=None)


def publish_again(session: Session, run: TaskRun, *, now: datetime) -> bool:
    """Record that a task is sent again; False when the row has changed since `run` was read.

    A running task becomes pending: its message is lost, so its worker can no longer finish it. Its attempts so far no
    longer count towards its retries.
    """
    state = TaskState.PENDING if run.state == TaskState.PROCESSING else run.state
    before = TaskRun.attempts_before + TaskRun.attempts
    values = {"published_at": now, "state": state, "attempts_before": before, "attempts": 0}
    changed = _changed(session.execute(update(TaskRun).where(_unchanged(run)).values(values)))
    if changed:
        _end_open_attempts(session, run, now=now, outcome="lost")
    return changed


def cancel_lost(session: Session, run: TaskRun, *, now: datetime) -> bool:
    """Cancel a task that the broker has lost; False when the row has changed since `run` was read."""
    values = {"state": TaskState.CANCELLED, "finished_at": now, "due_at": None}
    changed = _changed(session.execute(update(TaskRun).where(_unchanged(run)).values(values)))
    if changed:
        _end_open_attempts(session, run, now=now, outcome=TaskState.CANCELLED.value)
    return changed


def unfinished_before(session: Session, moment: datetime, *, after_seq: int, limit: int) -> Sequence[TaskRun]:
    """Unfinished tasks in the order of submission: never sent, or last sent or started before `moment`.

    Without those that the database holds until they are due.
    """
    # The first condition is that of the partial index. Conditions on single states would lead SQLite to another index.
    unfinished = and_(TaskRun.finished_at.is_(None), TaskRun.state != TaskState.ACCEPTED, ~HELD)
    moved_at = case((TaskRun.state == TaskState.PROCESSING, TaskRun.started_at), else_=TaskRun.published_at)
    before = or_(moved_at.is_(None), moved_at < moment)
    statement = select(TaskRun).where(unfinished, before, TaskRun.seq > after_seq).order_by(TaskRun.seq)
    return _page(session, statement, limit)


def by_state(
    session: Session, states: Sequence[TaskState], *, limit: int, before_seq: int | None = None
) -> Sequence[TaskRun]:
    """Tasks in these states, newest first."""
    statement = select(TaskRun).where(TaskRun.state.in_(states)).order_by(TaskRun.seq.desc())
    return _page(session, statement.where(TaskRun.seq < before_seq) if before_seq else statement, limit)


def by_ids(session: Session, ids: Sequence[str], *, lock: bool = False) -> Sequence[TaskRun]:
    """The tasks with these ids, in the order of submission. `lock`: until the transaction ends."""
    statement = select(TaskRun).where(TaskRun.id.in_(ids)).order_by(TaskRun.seq)
    return session.scalars(statement.with_for_update() if lock else statement).all()


def count_by_queue(session: Session, *, now: datetime) -> dict[tuple[str, str], int]:
    """(queue, state) → number of tasks, unfinished or dead letters. Scheduled tasks that are due are pending."""
    states = (*UNFINISHED, TaskState.DEAD_LETTER)
    due = and_(TaskRun.state == TaskState.SCHEDULED, TaskRun.due_at <= now)
    state = case((due, TaskState.PENDING), else_=TaskRun.state)
    rows = session.execute(
        select(TaskRun.queue, state, func.count()).where(TaskRun.state.in_(states)).group_by(TaskRun.queue, state)
    )
    return {(queue, state): count for queue, state, count in rows}


def _unchanged(run: TaskRun) -> ColumnElement[bool]:
    sent = TaskRun.published_at == run.published_at if run.published_at else TaskRun.published_at.is_(None)
    return and_(TaskRun.id == run.id, TaskRun.state == run.state, TaskRun.attempts == run.attempts, sent)


def _end_open_attempts(session: Session, run: TaskRun, *, now: datetime, outcome: str) -> None:
    """End the attempts of a task that have no outcome: their worker will not report one any more."""
    still_open = (TaskAttempt.task_id == run.id, TaskAttempt.outcome.is_(None))
    session.execute(update(TaskAttempt).where(*still_open).values(outcome=outcome, ended_at=now))


def _move(session: Session, id: str, *states: TaskState, **values: Any) -> bool:
    return _changed(
        session.execute(update(TaskRun).where(TaskRun.id == id, TaskRun.state.in_(states)).values(**values))
    )


def _page(session: Session, statement: Select[TaskRun], limit: int) -> Sequence[TaskRun]:
    return session.scalars(statement.limit(limit)).all()


def _changed(result: Any) -> bool:
    rows: CursorResult[Any] = result
    return rows.rowcount > 0
