"""Queries over what tasks wait for, and over the signals that were sent to them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun, TaskSignal, TaskWait
from laneway.schemas.task import FINISHED


class WaitKind(StrEnum):
    """What a task waits for."""

    TIME = "time"
    SIGNAL = "signal"
    TASK = "task"
    WORKFLOW = "workflow"
    RESUME = "resume"
    """The workflow of a step to be resumed."""


def signal_target(task_id: str, name: str) -> str:
    """The target of a wait for a signal."""
    return f"{task_id} {name}"


def find(session: Session, task_id: str, name: str) -> TaskWait | None:
    """One wait of a task."""
    return session.get(TaskWait, (task_id, name))


def of_task(session: Session, task_id: str, *, limit: int = 200) -> Sequence[TaskWait]:
    """What a task waits for now, the oldest first."""
    conditions = (TaskWait.task_id == task_id, TaskWait.timed_out.is_(None))
    return session.scalars(select(TaskWait).where(*conditions).order_by(TaskWait.created_at).limit(limit)).all()


def targets_awaited(session: Session, kind: WaitKind, targets: Collection[str]) -> list[str]:
    """Those of the targets that some task waits for."""
    conditions = (TaskWait.kind == kind, TaskWait.target.in_(targets), TaskWait.timed_out.is_(None))
    return sorted(set(session.scalars(select(TaskWait.target).where(*conditions))))


def waiting_for(session: Session, kind: str, targets: Collection[str], *, after: str, limit: int) -> Sequence[str]:
    """The tasks that wait for one of the targets and have not ended, in the order of their ids, after `after`."""
    statement = select(TaskWait.task_id).join(TaskRun, TaskRun.id == TaskWait.task_id)
    conditions = (TaskWait.kind == kind, TaskWait.target.in_(targets), TaskWait.timed_out.is_(None))
    unfinished = (TaskRun.state.not_in(FINISHED), TaskWait.task_id > after)
    found = statement.where(*conditions, *unfinished).order_by(TaskWait.task_id).distinct().limit(limit)
    return session.scalars(found).all()


def forget(session: Session, task_ids: Collection[str], *, kind: WaitKind) -> None:
    """Delete waits of one kind of these tasks."""
    session.execute(delete(TaskWait).where(TaskWait.task_id.in_(task_ids), TaskWait.kind == kind))


def signal(session: Session, task_id: str, name: str, key: str) -> TaskSignal | None:
    """A signal by its key."""
    conditions = (TaskSignal.task_id == task_id, TaskSignal.name == name, TaskSignal.key == key)
    return session.scalars(select(TaskSignal).where(*conditions)).one_or_none()


def count_signals(session: Session, task_id: str) -> int:
    """The number of signals that were sent to a task."""
    return session.scalar(select(func.count()).select_from(TaskSignal).where(TaskSignal.task_id == task_id)) or 0


def next_signal(session: Session, task_id: str, name: str) -> TaskSignal | None:
    """The oldest signal of this name that no wait has received."""
    conditions = (TaskSignal.task_id == task_id, TaskSignal.name == name, TaskSignal.taken_by.is_(None))
    return session.scalars(select(TaskSignal).where(*conditions).order_by(TaskSignal.seq).limit(1)).one_or_none()
