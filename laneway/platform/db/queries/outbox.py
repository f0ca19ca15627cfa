"""Queries over the outbox: the rows of accepted tasks that the broker does not have yet.

`published_at` of such a row is the time at which a sender claimed it; None: no sender has claimed it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import closing
from datetime import datetime
from typing import cast

from sqlalchemy import ColumnElement, Select, Table, and_, bindparam, case, func, or_, select, update
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.held import HELD
from laneway.platform.db.queries.task_runs import RELIED_ON
from laneway.schemas.task import WAITING, TaskState

STEP = 10
"""Rows that are read from the database at once where their bytes are counted."""
_TABLE = cast("Table", TaskRun.__table__)
# Built once, because each submission executes them: building a statement costs more than executing it.
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
    """Put a task that the broker did not take into the outbox; False when the row has changed since `run` was read."""
    sent = None if run.published_at is None else (run.published_at, run.published_at + RELIED_ON)
    untouched = and_(TaskRun.id == run.id, TaskRun.published_at.in_(sent or ()), TaskRun.attempts == 0)
    values = {"state": TaskState.ACCEPTED, "published_at": None}
    changed = session.scalars(
        update(TaskRun).where(untouched, TaskRun.state.in_(WAITING)).values(values).returning(TaskRun.id)
    ).all()
    return bool(changed)


def keys_waiting(session: Session, keys: Collection[str]) -> set[str]:
    """Return the ordering keys that have a task in the outbox."""
    return set(session.connection().scalars(_KEYS_WAITING, {"keys": list(keys)}))


def release(session: Session, runs: Sequence[TaskRun]) -> None:
    """End the claims on these rows, except where another sender has claimed the row since."""
    for claimed in {run.published_at for run in runs}:
        ids = [run.id for run in runs if run.published_at == claimed]
        ours = (TaskRun.id.in_(ids), TaskRun.state == TaskState.ACCEPTED, TaskRun.published_at == claimed)
        session.execute(update(TaskRun).where(*ours).values(published_at=None))


def claim(
    session: Session,
    *,
    now: datetime,
    abandoned_before: datetime,
    limit: int,
    most_bytes: int,
    queues: Collection[str],
) -> Sequence[TaskRun]:
    """Claim the oldest free rows, in the order of submission. No other sender gets them until the claim ends.

    A row is not claimed while an earlier row of its ordering key is claimed by another sender or cannot be sent now.
    `abandoned_before`: claims from before this time have ended. `queues`: rows of other queues stay. `most_bytes`: no
    further row is claimed when the payloads of the claimed rows have so many bytes.
    """
    free = and_(*_free(abandoned_before), TaskRun.queue.in_(queues))
    blocked = (
        select(TaskRun.key, func.min(TaskRun.seq).label("first"))
        .where(TaskRun.state == TaskState.ACCEPTED, TaskRun.key.is_not(None), ~free)
        .group_by(TaskRun.key)
        .subquery()
    )
    statement = (
        select(TaskRun)
        .outerjoin(blocked, blocked.c.key == TaskRun.key)
        .where(free, or_(blocked.c.first.is_(None), TaskRun.seq < blocked.c.first))
        .order_by(TaskRun.seq)
        .limit(limit)
        .with_for_update(skip_locked=True, of=TaskRun)
    )
    runs = _without_gaps(session, _first_rows(session, statement, most_bytes))
    for run in runs:
        run.published_at = now
    session.flush()
    return runs


def claim_again(session: Session, runs: Sequence[TaskRun], *, now: datetime) -> set[str]:
    """Renew the claims on these rows; returns the ids of those that still belonged to the sender."""
    claims = {run.id: run.published_at for run in runs}
    found = select(TaskRun).where(TaskRun.id.in_(claims), TaskRun.state == TaskState.ACCEPTED)
    rows = session.scalars(found.order_by(TaskRun.seq).with_for_update(skip_locked=True)).all()
    ours = _without_gaps(session, [row for row in rows if row.published_at == claims[row.id]])
    for row in ours:
        row.published_at = now
    session.flush()
    return {row.id for row in ours}


def queues_with_free_rows(session: Session, *, abandoned_before: datetime) -> set[str]:
    """The queues that have a row to claim."""
    return set(session.scalars(select(TaskRun.queue).where(*_free(abandoned_before)).distinct()))


def in_outbox(session: Session, ids: Collection[str]) -> set[str]:
    """Return those of the ids whose tasks are in the outbox."""
    return set(session.scalars(select(TaskRun.id).where(TaskRun.id.in_(ids), TaskRun.state == TaskState.ACCEPTED)))


def mark_sent(session: Session, ids: Sequence[str], *, now: datetime) -> list[str]:
    """Mark these tasks as sent to the broker; returns the ids whose rows had left the outbox before."""
    marked = set(session.connection().scalars(_MARK_SENT, {"ids": ids, "now": now}))
    return [id for id in ids if id not in marked]


def assume_sent(session: Session, queue: str, *, before: datetime) -> None:
    """Take the rows that were accepted before this time out of the outbox: a later copy of it may have sent them.

    The same goes for held rows that were due before this time.
    """
    sent = or_(TaskRun.state == TaskState.ACCEPTED, and_(HELD, TaskRun.due_at <= before))
    early = (TaskRun.queue == queue, sent, TaskRun.accepted_at <= before)
    published = func.coalesce(TaskRun.published_at, TaskRun.accepted_at)
    session.execute(update(TaskRun).where(*early).values(state=TaskState.PENDING, published_at=published))


def cancelled_or_deleted(session: Session, ids: Sequence[str]) -> set[str]:
    """Return the ids of tasks that were cancelled or deleted while they were sent."""
    wanted = select(TaskRun.id).where(TaskRun.id.in_(ids), TaskRun.state != TaskState.CANCELLED)
    return set(ids).difference(session.scalars(wanted))


def count_waiting(session: Session, queue: str) -> int:
    """The number of tasks of a queue that wait in the broker or in the outbox."""
    return session.connection().scalar(_COUNT_WAITING, {"queue": queue}) or 0


def count(session: Session, queue: str) -> int:
    """The number of tasks of a queue in the outbox."""
    statement = select(func.count()).select_from(TaskRun)
    return session.scalar(statement.where(TaskRun.queue == queue, TaskRun.state == TaskState.ACCEPTED)) or 0


def _first_rows(session: Session, statement: Select[TaskRun], most_bytes: int) -> list[TaskRun]:
    """Read rows until their payloads have so many bytes; at least one, if there is one."""
    rows, left = list[TaskRun](), most_bytes
    with closing(session.scalars(statement, execution_options={"yield_per": STEP})) as found:
        for row in found:
            rows.append(row)
            left -= len(json.dumps(row.payload))
            if left <= 0:
                break
    return rows


def _without_gaps(session: Session, runs: Sequence[TaskRun]) -> list[TaskRun]:
    """Return the rows without those that come after a missing row of the same ordering key.

    A row is missing when another transaction has locked it.
    """
    keys = {run.key for run in runs if run.key is not None}
    if not keys:
        return list(runs)
    accepted = select(TaskRun.id, TaskRun.key).where(
        TaskRun.key.in_(keys), TaskRun.state == TaskState.ACCEPTED, TaskRun.seq <= runs[-1].seq
    )
    kept, blocked = {run.id for run in runs}, set[str | None]()
    for id, key in session.execute(accepted.order_by(TaskRun.seq)):
        if id not in kept:
            blocked.add(key)
        if key in blocked:
            kept.discard(id)
    return [run for run in runs if run.id in kept]


def _free(abandoned_before: datetime) -> tuple[ColumnElement[bool], ...]:
    unclaimed = or_(TaskRun.published_at.is_(None), TaskRun.published_at < abandoned_before)
    return TaskRun.state == TaskState.ACCEPTED, unclaimed
