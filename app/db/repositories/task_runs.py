"""Queries over the ledger of tasks. Each change of state is a conditional UPDATE: who comes second changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Select, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from app.db.models import TaskRun
from app.schemas.task import FINISHED, UNFINISHED, WAITING, State

PAGE = 200


def add(session: Session, **values: Any) -> TaskRun | None:
    """Write down a new task; None when its id is taken already."""
    try:
        with session.begin_nested():
            session.execute(insert(TaskRun).values(**values))
    except IntegrityError:
        return None
    return find(session, values["id"])


def find(session: Session, id: str) -> TaskRun | None:
    """The task with this id."""
    return session.scalars(select(TaskRun).where(TaskRun.id == id)).one_or_none()


def withdraw(session: Session, id: str) -> bool:
    """Strike out a task that was never handed to the broker; False when somebody works on it already."""
    return _changed(
        session.execute(delete(TaskRun).where(TaskRun.id == id, TaskRun.state == State.PENDING, TaskRun.attempts == 0))
    )


def count_waiting(session: Session, queue: str, *, at_most: int) -> int:
    """How many tasks of a queue wait, counted no further than `at_most`."""
    some = select(TaskRun.seq).where(TaskRun.queue == queue, TaskRun.state.in_(WAITING)).limit(at_most).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def count_unfinished(session: Session, key: str) -> int:
    """How many tasks of an ordering key are not over."""
    return (
        session.scalar(
            select(func.count()).select_from(TaskRun).where(TaskRun.key == key, TaskRun.state.in_(UNFINISHED))
        )
        or 0
    )


def claim(session: Session, id: str, *, worker: str, now: datetime, lease_until: datetime) -> TaskRun | None:
    """Start a waiting task whose turn it is; None when it is not waiting, or an earlier one of its key is unfinished.

    Two claims of one key at the same moment: the unique index over running keys lets one through.
    """
    statement = (
        update(TaskRun)
        .where(TaskRun.id == id, TaskRun.state.in_((State.PENDING, State.HELD)), _first_of_its_key())
        .values(state=State.PROCESSING, attempts=TaskRun.attempts + 1, worker=worker, started_at=now,
                lease_until=lease_until, due_at=None, progress=0, progress_message=None, finished_at=None)
    )  # fmt: skip
    try:
        with session.begin_nested():
            changed = _changed(session.execute(statement))
    except IntegrityError:
        return None
    return find(session, id) if changed else None


def hold(session: Session, id: str) -> bool:
    """Put a task aside until the earlier ones of its key are finished."""
    return _move(session, id, State.PENDING, state=State.HELD)


def settle(session: Session, id: str, *, attempt: int, **values: Any) -> bool:
    """Write down what became of one attempt; False when this attempt no longer owns the task."""
    owns = and_(TaskRun.id == id, TaskRun.state == State.PROCESSING, TaskRun.attempts == attempt)
    return _changed(session.execute(update(TaskRun).where(owns).values(lease_until=None, **values)))


def renew(session: Session, owned: Sequence[tuple[str, int]], *, lease_until: datetime) -> dict[str, bool]:
    """Extend the leases of (id, attempt) pairs; gives back id → cancel requested for those still owned."""
    mine = or_(*(and_(TaskRun.id == id, TaskRun.attempts == attempt) for id, attempt in owned))
    statement = (
        update(TaskRun).where(mine, TaskRun.state == State.PROCESSING).values(lease_until=lease_until)
        .returning(TaskRun.id, TaskRun.cancel_requested)
    )  # fmt: skip
    return dict(session.execute(statement).all())


def report_progress(session: Session, id: str, *, attempt: int, percent: int, message: str | None) -> bool | None:
    """Store progress; gives back whether a cancel was requested, None when the attempt no longer owns the task."""
    statement = (
        update(TaskRun)
        .where(TaskRun.id == id, TaskRun.attempts == attempt, TaskRun.state == State.PROCESSING)
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


def reopen(session: Session, id: str, *, now: datetime) -> bool:
    """Put a finished task back at the start, attempts uncounted, its history of errors cleared."""
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
        published_at=now,
    )


def publish_again(session: Session, run: TaskRun, *, now: datetime) -> bool:
    """Make a waiting task ready to be sent; False when somebody else did so since `run` was read."""
    unchanged = TaskRun.published_at == run.published_at if run.published_at else TaskRun.published_at.is_(None)
    return _changed(
        session.execute(
            update(TaskRun)
            .where(
                TaskRun.id == run.id,
                TaskRun.state == run.state,
                unchanged,
            )
            .values(state=State.PENDING, published_at=now, due_at=None)
        )
    )


def due(session: Session, *, now: datetime, limit: int = PAGE) -> Sequence[TaskRun]:
    """Scheduled tasks whose time has come."""
    return _page(
        session,
        select(TaskRun).where(TaskRun.state == State.SCHEDULED, TaskRun.due_at <= now).order_by(TaskRun.due_at),
        limit,
    )


def released(session: Session, *, key: str | None = None, limit: int = PAGE) -> Sequence[TaskRun]:
    """Held tasks whose turn has come, of one key or of all."""
    statement = select(TaskRun).where(TaskRun.state == State.HELD, _first_of_its_key()).order_by(TaskRun.seq)
    return _page(session, statement.where(TaskRun.key == key) if key else statement, limit)


def overdue(session: Session, *, now: datetime, limit: int = PAGE) -> Sequence[TaskRun]:
    """Running tasks whose lease ran out: their worker is gone."""
    return _page(session, select(TaskRun).where(TaskRun.state == State.PROCESSING, TaskRun.lease_until < now), limit)


def published_before(
    session: Session, moment: datetime, *, queue: str, after_seq: int = 0, limit: int = PAGE
) -> Sequence[TaskRun]:
    """Tasks of a queue that were sent before `moment` and have not been started since."""
    return _page(
        session,
        select(TaskRun)
        .where(
            TaskRun.queue == queue,
            TaskRun.state == State.PENDING,
            TaskRun.published_at < moment,
            TaskRun.seq > after_seq,
        )
        .order_by(TaskRun.seq),
        limit,
    )


def count_published_before(session: Session, moment: datetime) -> dict[str, int]:
    """Per queue, how many tasks were sent before `moment` and have not been started since."""
    rows = session.execute(
        select(TaskRun.queue, func.count())
        .where(TaskRun.state == State.PENDING, TaskRun.published_at < moment)
        .group_by(TaskRun.queue)
    )
    return dict(rows.tuples().all())


def by_state(
    session: Session, states: Sequence[State], *, limit: int, before_seq: int | None = None
) -> Sequence[TaskRun]:
    """Tasks in these states, newest first."""
    statement = select(TaskRun).where(TaskRun.state.in_(states)).order_by(TaskRun.seq.desc())
    return _page(session, statement.where(TaskRun.seq < before_seq) if before_seq else statement, limit)


def recent(session: Session, ids: Sequence[str]) -> Sequence[TaskRun]:
    """The tasks with these ids, in the order of submission."""
    return session.scalars(select(TaskRun).where(TaskRun.id.in_(ids)).order_by(TaskRun.seq)).all()


def count_by_queue(session: Session) -> dict[tuple[str, str], int]:
    """(queue, state) → number, for states that are not over, and dead letters."""
    states = (*UNFINISHED, State.DEAD_LETTER)
    rows = session.execute(
        select(TaskRun.queue, TaskRun.state, func.count())
        .where(TaskRun.state.in_(states))
        .group_by(TaskRun.queue, TaskRun.state)
    )
    return {(queue, state): count for queue, state, count in rows}


def count_failures(session: Session, *, since: datetime) -> dict[str, int]:
    """Task name → how many failed for good since then."""
    rows = session.execute(
        select(TaskRun.name, func.count())
        .where(TaskRun.finished_at >= since, TaskRun.state.in_((State.FAILED, State.DEAD_LETTER)))
        .group_by(TaskRun.name)
    )
    return dict(rows.tuples().all())


def _first_of_its_key() -> ColumnElement[bool]:
    earlier = aliased(TaskRun)
    blocked = exists().where(
        earlier.key == TaskRun.key,
        earlier.state.in_(UNFINISHED),
        or_(earlier.seq < TaskRun.seq, earlier.state == State.PROCESSING),
        earlier.seq != TaskRun.seq,
    )
    return or_(TaskRun.key.is_(None), ~blocked)


def _move(session: Session, id: str, *states: State, **values: Any) -> bool:
    return _changed(
        session.execute(update(TaskRun).where(TaskRun.id == id, TaskRun.state.in_(states)).values(**values))
    )


def _page(session: Session, statement: Select[TaskRun], limit: int) -> Sequence[TaskRun]:
    return session.scalars(statement.limit(limit)).all()


def _changed(result: Any) -> bool:
    rows: CursorResult[Any] = result
    return rows.rowcount > 0
