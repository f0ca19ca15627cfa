"""Queries over actions on many tasks, and over what an undo of them needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.orm import Session

from laneway.platform.db.models import BulkAction, BulkActionTask
from laneway.platform.db.queries.retention import delete_batch

_ADD_TASKS = insert(cast("Table", BulkActionTask.__table__))


def find(session: Session, id: str, *, lock: bool = False) -> BulkAction | None:
    """The action with this id, or None. `lock`: until the transaction ends."""
    if "\x00" in id:
        return None  # PostgreSQL refuses to compare a NUL character
    statement = select(BulkAction).where(BulkAction.id == id)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def page(session: Session, *, since: datetime, by: str | None, limit: int) -> Sequence[BulkAction]:
    """The actions that began at this time or later, newest first. `by`: only those of this caller; None: of all."""
    statement = select(BulkAction).where(BulkAction.at >= since)
    if by is not None:
        statement = statement.where(BulkAction.by == by)
    return session.scalars(statement.order_by(BulkAction.at.desc(), BulkAction.id).limit(limit)).all()


def note(session: Session, id: str, before: Mapping[str, dict[str, Any]], *, tasks: int) -> None:
    """Count the tasks that an action has changed, and store what an undo needs: task → what was there before."""
    session.execute(update(BulkAction).where(BulkAction.id == id).values(tasks=BulkAction.tasks + tasks))
    known = select(BulkActionTask.task_id).where(BulkActionTask.action_id == id, BulkActionTask.task_id.in_(before))
    first = before.keys() - set(session.scalars(known))  # a task that the action changed twice keeps its first state
    rows = [{"action_id": id, "task_id": task, "before": before[task]} for task in before if task in first]
    if rows:
        session.connection().execute(_ADD_TASKS, rows)


def tasks_of(session: Session, id: str, *, limit: int) -> Sequence[BulkActionTask]:
    """Some of the tasks of an action that are not undone yet."""
    rows = select(BulkActionTask).where(BulkActionTask.action_id == id)
    return session.scalars(rows.order_by(BulkActionTask.task_id).limit(limit)).all()


def count_tasks(session: Session, ids: Sequence[str]) -> dict[str, int]:
    """Action → how many of its tasks an undo would still look at."""
    rows = select(BulkActionTask.action_id, func.count()).where(BulkActionTask.action_id.in_(ids))
    found: dict[str, int] = {}
    for action, number in session.execute(rows.group_by(BulkActionTask.action_id)):
        found[action] = number
    return found


def forget_tasks(session: Session, id: str, tasks: Sequence[str]) -> None:
    """Delete what an undo needs of these tasks: it has done them."""
    rows = delete(BulkActionTask).where(BulkActionTask.action_id == id, BulkActionTask.task_id.in_(tasks))
    session.execute(rows)


def delete_tasks(session: Session, *, before: datetime, limit: int) -> int:
    """Delete what an undo needs of actions that began before `before`, at most `limit` rows; returns how many."""
    old = select(BulkAction.id).where(BulkAction.at < before)
    rows = (
        select(BulkActionTask.action_id, BulkActionTask.task_id).where(BulkActionTask.action_id.in_(old)).limit(limit)
    )
    found = session.execute(rows).all()
    for action in {row.action_id for row in found}:
        forget_tasks(session, action, [row.task_id for row in found if row.action_id == action])
    return len(found)


def delete_actions(session: Session, *, before: datetime, limit: int) -> int:
    """Delete actions that began before `before`, at most `limit`; returns how many."""
    return delete_batch(session, BulkAction.id, BulkAction.at < before, limit)
