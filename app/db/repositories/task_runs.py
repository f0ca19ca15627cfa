"""Queries over the ledger of tasks. Each change of state is a conditional UPDATE: who comes second changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import TaskRun
from app.schemas.task import FINISHED, UNFINISHED, WAITING, State

PAGE = 200

Attempt = tuple[str, datetime | None]
"""One attempt at a task: its id, and when it was started."""


def add(session: Session, **values: Any) -> TaskRun | None:
    """Write down a new task; None when its id is taken already."""
    try:
        with session.begin_nested():
            session.execute(insert(TaskRun).values(**values))
    except IntegrityError:
        return None
    return find(session, values["id"])


def find(session: Session, id: str, *, lock: bool = False) -> TaskRun | None:
    """The task with this id; locked, it cannot change before the transaction ends."""
    if "\x00" in id:
        return None  # PostgreSQL refuses even to compare it
    statement = select(TaskRun).where(TaskRun.id == id)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def withdraw(session: Session, run: TaskRun) -> bool:
    """Strike out a task that was never handed to the broker; False when somebody works on it or counts on it."""
    untouched = and_(TaskRun.id == run.id, TaskRun.published_at == run.published_at)
    return _changed(
        session.execute(delete(TaskRun).where(untouched, TaskRun.state.in_(WAITING), TaskRun.attempts == 0))
    )


def count_on(session: Session, id: str, *, now: datetime) -> None:
    """Note that a second submitter was told that this task is accepted: its first one may no longer withdraw it."""
    session.execute(
        update(TaskRun)
        .where(TaskRun.id == id, TaskRun.state.in_(WAITING), TaskRun.published_at == TaskRun.accepted_at)
        .values(published_at=now)
    )


def count_unfinished(session: Session, key: str) -> int:
    """How many tasks of an ordering key are not over."""
    return (
        session.scalar(
            select(func.count()).select_from(TaskRun).where(TaskRun.key == key, TaskRun.state.in_(UNFINISHED))
        )
        or 0
    )


def claim(session: Session, id: str, *, worker: str, now: datetime) -> TaskRun | None:
    """Start a waiting task; None when it is not waiting."""
    changed = _move(
        session, id, *WAITING, state=State.PROCESSING, attempts=TaskRun.attempts + 1, worker=worker, started_at=now,
        due_at=None, progress=0, progress_message=None, finished_at=None,
    )  # fmt: skip
    return find(session, id) if changed else None


def settle(session: Session, run: TaskRun, **values: Any) -> bool:
    """Write down what became of one attempt; False when this attempt no longer owns the task."""
    return _changed(session.execute(update(TaskRun).where(_owns(run)).values(**values)))


def bury(session: Session, run: TaskRun, **values: Any) -> bool:
    """Write down that the broker gave a task up; False when it has moved on since `run` was read."""
    same = and_(TaskRun.id == run.id, TaskRun.state == run.state, TaskRun.attempts == run.attempts, _as_sent(run))
    return _changed(session.execute(update(TaskRun).where(same, TaskRun.state.in_(UNFINISHED)).values(**values)))


def asked_to_stop(session: Session, owned: Sequence[TaskRun]) -> dict[Attempt, bool]:
    """Attempt → cancel requested, for those of these attempts that still own their task."""
    statement = select(TaskRun.id, TaskRun.started_at, TaskRun.cancel_requested).where(
        or_(*(_owns(run) for run in owned))
    )
    return {(row[0], row[1]): row[2] for row in session.execute(statement)}


def report_progress(session: Session, run: TaskRun, *, percent: int, message: str | None) -> bool | None:
    """Store progress; gives back whether a cancel was requested, None when the attempt no longer owns the task."""
    statement = (
        update(TaskRun)
        .where(_owns(run))
        .values(progress=percent, progress_message=message)
        .returning(TaskRun.cancel_requested)
    )
    return session.scalar(statement)


def cancel_waiting(session: Session, id: str, *, now: datetime) -> bool:
    """Cancel a task that has not started."""
    return _move(session, id, *WAITING, state=State.CANCELLED, finished_at=now, due_at=None)


def request_cancel(session: Session, id: str) -> bool:
    """Ask a running task to stop."""
    return _move(session, id, State.PROCESSING, cancel_requested=True)


def reopen(session: Session, id: str) -> bool:
    """Put a finished task back at the start, not sent yet, attempts uncounted, its history of errors cleared."""
    return _move(
        session,
        id,
        *FINISHED,
        state=State.PENDING,
        attempts=0,
        progress=0,
        progress_message=None,
        result=None,
        error=None,
        error_type=None,
        traceback=None,
        worker=None,
        cancel_requested=False,
        started_at=None,
        finished_at=None,
        due_at=None,
        published_at=None,
    )


def publish_again(session: Session, run: TaskRun, *, now: datetime) -> bool:
    """Note that a waiting task is sent (again); False when somebody else did so since `run` was read."""
    same = and_(TaskRun.id == run.id, TaskRun.state == run.state, _as_sent(run))
    return _changed(session.execute(update(TaskRun).where(same).values(published_at=now)))


def unfinished_before(session: Session, moment: datetime, *, after_seq: int, limit: int) -> Sequence[TaskRun]:
    """Tasks that were last sent (or never) or started before `moment` and are not over, in order of submission."""
    sent = or_(TaskRun.published_at.is_(None), TaskRun.published_at < moment)
    waiting = and_(TaskRun.state.in_(WAITING), sent)
    running = and_(TaskRun.state == State.PROCESSING, TaskRun.started_at < moment)
    statement = select(TaskRun).where(or_(waiting, running), TaskRun.seq > after_seq).order_by(TaskRun.seq)
    return _page(session, statement, limit)


def by_state(
    session: Session, states: Sequence[State], *, limit: int, before_seq: int | None = None
) -> Sequence[TaskRun]:
    """Tasks in these states, newest first."""
    statement = select(TaskRun).where(TaskRun.state.in_(states)).order_by(TaskRun.seq.desc())
    return _page(session, statement.where(TaskRun.seq < before_seq) if before_seq else statement, limit)


def recent(session: Session, ids: Sequence[str]) -> Sequence[TaskRun]:
    """The tasks with these ids, in the order of submission."""
    return session.scalars(select(TaskRun).where(TaskRun.id.in_(ids)).order_by(TaskRun.seq)).all()


def count_by_queue(session: Session, *, now: datetime) -> dict[tuple[str, str], int]:
    """(queue, state) → number, for states that are not over, and dead letters; what is due waits, and is pending."""
    states = (*UNFINISHED, State.DEAD_LETTER)
    due = and_(TaskRun.state == State.SCHEDULED, TaskRun.due_at <= now)
    state = case((due, State.PENDING), else_=TaskRun.state)
    rows = session.execute(
        select(TaskRun.queue, state, func.count()).where(TaskRun.state.in_(states)).group_by(TaskRun.queue, state)
    )
    return {(queue, state): count for queue, state, count in rows}


def count_failures(session: Session, *, since: datetime) -> dict[str, int]:
    """Task name → how many failed for good since then."""
    rows = session.execute(
        select(TaskRun.name, func.count())
        .where(TaskRun.finished_at >= since, TaskRun.state.in_((State.FAILED, State.DEAD_LETTER)))
        .group_by(TaskRun.name)
    )
    return {row[0]: row[1] for row in rows}


def _owns(run: TaskRun) -> ColumnElement[bool]:
    """Whether the task is still run by this very attempt: the number alone starts anew when a task is reopened."""
    return and_(
        TaskRun.id == run.id,
        TaskRun.state == State.PROCESSING,
        TaskRun.attempts == run.attempts,
        TaskRun.started_at == run.started_at,
    )


def _as_sent(run: TaskRun) -> ColumnElement[bool]:
    """Whether it has not been sent, nor reopened, since `run` was read."""
    return TaskRun.published_at == run.published_at if run.published_at else TaskRun.published_at.is_(None)


def _move(session: Session, id: str, *states: State, **values: Any) -> bool:
    return _changed(
        session.execute(update(TaskRun).where(TaskRun.id == id, TaskRun.state.in_(states)).values(**values))
    )


def _page(session: Session, statement: Select[TaskRun], limit: int) -> Sequence[TaskRun]:
    return session.scalars(statement.limit(limit)).all()


def _changed(result: Any) -> bool:
    rows: CursorResult[Any] = result
    return rows.rowcount > 0
