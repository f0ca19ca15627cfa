"""Tasks that are accepted and not yet with the broker: their rows are the outbox.

`published_at` of such a row says since when somebody is sending it; none: nobody is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import ColumnElement, Table, and_, bindparam, case, exists, func, or_, select, update
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.task_runs import COUNTED_ON
from laneway.platform.schemas.task import WAITING, TaskState

_TABLE = cast("Table", TaskRun.__table__)
# Made once, as they belong to each submission: to build a statement costs more than to execute it.
_COUNT_WAITING = (
    select(func.count()).select_from(_TABLE).where(_TABLE.c.queue == bindparam("queue"), _TABLE.c.state.in_(WAITING))
)
_KEYS_WAITING = (
    select(_TABLE.c.key)
    .where(_TABLE.c.key.in_(bindparam("keys", expanding=True)), _TABLE.c.state == TaskState.ACCEPTED)
    .distinct()
)
_MARK_SENT = (
    update(_TABLE)
    .where(_TABLE.c.id.in_(bindparam("ids", expanding=True)), _TABLE.c.state == TaskState.ACCEPTED)
    .values(state=case((_TABLE.c.due_at > bindparam("now"), TaskState.SCHEDULED), else_=TaskState.PENDING))
    .returning(_TABLE.c.id)
)


def park(session: Session, run: TaskRun) -> bool:
    """Keep a task that the broker did not take; False when it moved on since `run` was read."""
    sent = None if run.published_at is None else (run.published_at, run.published_at + COUNTED_ON)
    untouched = and_(TaskRun.id == run.id, TaskRun.published_at.in_(sent or ()), TaskRun.attempts == 0)
    values = {"state": TaskState.ACCEPTED, "published_at": None}
    changed = session.scalars(
        update(TaskRun).where(untouched, TaskRun.state.in_(WAITING)).values(values).returning(TaskRun.id)
    ).all()
    return bool(changed)


def keys_waiting(session: Session, keys: Collection[str]) -> set[str]:
    """Those of these ordering keys of which a task is not yet with the broker."""
    return set(session.connection().scalars(_KEYS_WAITING, {"keys": list(keys)}))


def release(session: Session, runs: Sequence[TaskRun]) -> None:
    """Who claimed these lets go of them; a claim that somebody else has taken since stays."""
    for claimed in {run.published_at for run in runs}:
        ids = [run.id for run in runs if run.published_at == claimed]
        mine = (TaskRun.id.in_(ids), TaskRun.state == TaskState.ACCEPTED, TaskRun.published_at == claimed)
        session.execute(update(TaskRun).where(*mine).values(published_at=None))


def claim(
    session: Session, *, now: datetime, abandoned_before: datetime, limit: int, but: Collection[str]
) -> Sequence[TaskRun]:
    """Take the oldest, in the order of submission, to be sent; nobody else gets them meanwhile.

    Of an ordering key only those before which nothing is that somebody else sends, or that cannot be sent now.
    `but`: queues that take no more now.
    """
    free = and_(*_free(abandoned_before, but))
    held = (
        select(TaskRun.key, func.min(TaskRun.seq).label("first"))
        .where(TaskRun.state == TaskState.ACCEPTED, TaskRun.key.is_not(None), ~free)
        .group_by(TaskRun.key)
        .subquery()
    )
    statement = (
        select(TaskRun)
        .outerjoin(held, held.c.key == TaskRun.key)
        .where(free, or_(held.c.first.is_(None), TaskRun.seq < held.c.first))
        .order_by(TaskRun.seq)
        .limit(limit)
        .with_for_update(skip_locked=True, of=TaskRun)
    )
    runs = _in_order(session, session.scalars(statement).all())
    for run in runs:
        run.published_at = now
    session.flush()
    return runs


def claim_again(session: Session, runs: Sequence[TaskRun], *, now: datetime) -> set[str]:
    """Which of these, claimed before, are still their sender's, and are so from now on."""
    claims = {run.id: run.published_at for run in runs}
    found = select(TaskRun).where(TaskRun.id.in_(claims), TaskRun.state == TaskState.ACCEPTED)
    rows = session.scalars(found.order_by(TaskRun.seq).with_for_update(skip_locked=True)).all()
    mine = _in_order(session, [row for row in rows if row.published_at == claims[row.id]])
    for row in mine:
        row.published_at = now
    session.flush()
    return {row.id for row in mine}


def _in_order(session: Session, runs: Sequence[TaskRun]) -> list[TaskRun]:
    """The same without those of a key behind one that is missing here: another transaction has it under its lock."""
    keys = {run.key for run in runs if run.key is not None}
    if not keys:
        return list(runs)
    accepted = select(TaskRun.id, TaskRun.key).where(
        TaskRun.key.in_(keys), TaskRun.state == TaskState.ACCEPTED, TaskRun.seq <= runs[-1].seq
    )
    mine, held = {run.id for run in runs}, set[str | None]()
    for id, key in session.execute(accepted.order_by(TaskRun.seq)):
        if id not in mine:
            held.add(key)
        if key in held:
            mine.discard(id)
    return [run for run in runs if run.id in mine]


def is_waiting(session: Session, *, abandoned_before: datetime, but: Collection[str]) -> bool:
    """Whether anything is there to be claimed."""
    found = exists().where(*_free(abandoned_before, but))
    return bool(session.scalar(select(found)))


def mark_sent(session: Session, ids: Sequence[str], *, now: datetime) -> list[str]:
    """The broker has these now; gives back those that somebody else has moved on meanwhile."""
    marked = set(session.connection().scalars(_MARK_SENT, {"ids": ids, "now": now}))
    return [id for id in ids if id not in marked]


def unwanted(session: Session, ids: Sequence[str]) -> set[str]:
    """Those of these that were cancelled, or deleted, while they were sent."""
    wanted = select(TaskRun.id).where(TaskRun.id.in_(ids), TaskRun.state != TaskState.CANCELLED)
    return set(ids).difference(session.scalars(wanted))


def count_waiting(session: Session, queue: str) -> int:
    """How many tasks of a queue wait, in the broker or for it."""
    return session.connection().scalar(_COUNT_WAITING, {"queue": queue}) or 0


def count(session: Session, queue: str) -> int:
    """How many tasks of a queue are not yet with the broker."""
    statement = select(func.count()).select_from(TaskRun)
    return session.scalar(statement.where(TaskRun.queue == queue, TaskRun.state == TaskState.ACCEPTED)) or 0


def _free(abandoned_before: datetime, but: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    nobody = or_(TaskRun.published_at.is_(None), TaskRun.published_at < abandoned_before)
    return TaskRun.state == TaskState.ACCEPTED, nobody, TaskRun.queue.not_in(but)
