"""Queries over the live workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from laneway.platform.db.models import TaskRun, Worker
from laneway.schemas.task import TaskState

ALIVE = timedelta(seconds=20)
"""A worker counts as alive for this long after its last report."""

MAX_ENDED = 100
"""Characters of how a worker ended."""


def report(
    session: Session,
    name: str,
    *,
    id: str,
    queues: Sequence[str],
    started_at: datetime,
    now: datetime,
    host: str = "",
    version: str = "",
    memory: int | None = None,
    leases: int | None = None,
    disk_free: float | None = None,
) -> None:
    """Store that a worker is alive, when and where it started, and which queues it serves. `id`: of this process.

    `memory`: bytes of all its processes. `leases`: how many messages it holds. `disk_free`: free percent of the disk of
    its `DATA_DIR`. None: unknown.

    If nobody could report for longer than a worker counts as alive, the silence says nothing: somebody held the
    database. Those who were alive at its beginning get their time anew, so that they are not taken for dead before they
    report.
    """
    _forgive_silence(session, id, now=now)
    values: dict[str, Any] = {
        "queues": list(queues),
        "started_at": started_at,
        "seen_at": now,
        "host": host,
        "version": version,
        "memory": memory,
        "leases": leases,
        "disk_free": disk_free,
    }
    seen = session.execute(update(Worker).where(Worker.id == id).values(**values))
    if not seen.rowcount:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        session.add(Worker(id=id, name=name, **values))


def _forgive_silence(session: Session, id: str, *, now: datetime) -> None:
    newest = session.scalar(select(func.max(Worker.seen_at)))
    if newest is None or newest > now - ALIVE:
        return
    own = session.scalar(select(Worker.seen_at).where(Worker.id == id))
    if own is not None and own > newest - ALIVE:  # this worker was alive then: it is no new one after all have died
        session.execute(update(Worker).where(Worker.seen_at > newest - ALIVE).values(seen_at=now))


def leave(session: Session, id: str) -> None:
    """Delete a worker that has stopped. One that was restarted because it was stuck stays, and says why."""
    session.execute(delete(Worker).where(Worker.id == id, Worker.ended.is_(None)))


def note_stuck(session: Session, id: str, *, how: str) -> None:
    """Store why a worker restarts itself."""
    session.execute(update(Worker).where(Worker.id == id).values(ended=how[:MAX_ENDED]))


def stuck(session: Session, *, beginning: str, since: datetime) -> Sequence[Worker]:
    """The workers that have restarted themselves since a time. `beginning`: of what they say."""
    told = Worker.ended.startswith(beginning, autoescape=True)
    return session.scalars(select(Worker).where(told, Worker.seen_at > since).order_by(Worker.seen_at)).all()


def note_end(session: Session, name: str, *, how: str) -> None:
    """Store how the worker of this name that started last has ended: its supervisor saw it.

    What the worker has said itself stays.
    """
    last = select(Worker.id).where(Worker.name == name).order_by(Worker.started_at.desc()).limit(1).scalar_subquery()
    session.execute(update(Worker).where(Worker.id == last, Worker.ended.is_(None)).values(ended=how))


def how_ended(session: Session, name: str, *, since: datetime) -> str:
    """How the worker that had this name at `since` ended, in words; empty if nobody saw it."""
    statement = (
        select(Worker.ended)
        .where(Worker.name == name, Worker.started_at <= since)
        .order_by(Worker.started_at.desc())
        .limit(1)
    )
    return session.scalar(statement) or ""


def alive(session: Session, *, now: datetime) -> Sequence[Worker]:
    """The live workers, by name."""
    return session.scalars(select(Worker).where(Worker.seen_at > now - ALIVE).order_by(Worker.name)).all()


def listing(session: Session, *, limit: int) -> Sequence[Worker]:
    """The workers that have not signed off, by name; of one name the newest first."""
    return session.scalars(select(Worker).order_by(Worker.name, Worker.started_at.desc()).limit(limit)).all()


def running(session: Session, *, limit: int) -> dict[str, list[str]]:
    """Worker → the ids of the tasks that it runs, the oldest first; at most `limit` of all workers together."""
    statement = (
        select(TaskRun.worker, TaskRun.id)
        .where(TaskRun.state == TaskState.PROCESSING, TaskRun.worker.is_not(None))
        .order_by(TaskRun.seq)
        .limit(limit)
    )
    found: dict[str, list[str]] = {}
    for worker, id in session.execute(statement):
        found.setdefault(worker or "", []).append(id)
    return found


def is_alive(session: Session, name: str, *, since: datetime, seen_after: datetime) -> bool:
    """Whether the worker that had this name at `since` has reported after `seen_after`.

    A worker of the same name that started later is another one. If the earlier one has not reported since that start,
    it was killed, and the later one is its successor.
    """
    later = aliased(Worker)
    succeeded = exists().where(later.name == name, later.started_at > since, later.started_at >= Worker.seen_at)
    statement = select(Worker.name).where(
        Worker.name == name, Worker.started_at <= since, Worker.seen_at > seen_after, ~succeeded
    )
    return session.scalar(statement) is not None


def last_report(session: Session, name: str) -> datetime | None:
    """When a worker of this name last reported."""
    return session.scalar(select(func.max(Worker.seen_at)).where(Worker.name == name))


def shared_names(session: Session, *, now: datetime) -> dict[str, int]:
    """Name → number of live workers, for each name that several live workers have.

    A worker that was killed and started again has not the name of another one: the old one is silent since the start.
    """
    by_name: dict[str, list[Worker]] = {}
    for worker in alive(session, now=now):
        by_name.setdefault(worker.name, []).append(worker)
    return {name: number for name, same in by_name.items() if (number := _number_at_once(same)) > 1}


def _number_at_once(workers: Sequence[Worker]) -> int:
    newest_start = max(worker.started_at for worker in workers)
    return sum(worker.seen_at >= newest_start for worker in workers)


def free_disks(session: Session, *, now: datetime) -> dict[str, float]:
    """Host → free percent of the disk of `DATA_DIR`, as its live workers report; of several disks the fullest one."""
    found: dict[str, float] = {}
    for worker in alive(session, now=now):
        if worker.disk_free is not None:
            found[worker.host] = min(worker.disk_free, found.get(worker.host, worker.disk_free))
    return found


def serving(session: Session, *, now: datetime) -> dict[str, int]:
    """Queue → number of live workers."""
    return dict(Counter(queue for worker in alive(session, now=now) for queue in worker.queues))
