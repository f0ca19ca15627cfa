"""Queries over the tasks that ended in a period: how many, how, and how long they took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CTE, ColumnElement, Select, and_, case, func, literal, select, union_all
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.durations import (
    TOTAL,
    Measured,
    Period,
    between,
    count_of,
    measured,
    select_measures,
    within,
)
from laneway.platform.library_schedules import CANARY
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState


class GroupBy(StrEnum):
    """How tasks are grouped. `TOTAL`: one group of all tasks."""

    TOTAL = "total"
    QUEUE = "queue"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class EndedFilter:
    """Tasks that ended in the period, without canaries; `queue`, `name`: only tasks of that queue or name."""

    period: Period
    queue: str | None = None
    name: str | None = None

    def clause(self) -> ColumnElement[bool]:
        """The filter as a condition on `TaskRun`."""
        clauses = [within(TaskRun.finished_at, self.period)]
        clauses += [TaskRun.queue == self.queue] if self.queue is not None else []
        clauses += [TaskRun.name.in_(registry.names_of(self.name))] if self.name is not None else []
        clauses += [TaskRun.name != CANARY] if self.name is None else []
        return and_(*clauses)


@dataclass(frozen=True, slots=True)
class EndCounts:
    """The numbers of tasks of one group, by how they ended. `retried`: tasks that were started more than once."""

    completed: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    retried: int


GroupKey = tuple[GroupBy, str]
"""How tasks are grouped, and the name of the group."""


def last_beyond(session: Session, ended: EndedFilter, *, limit: int) -> datetime | None:
    """When the newest task ended that is not among the newest `limit` tasks; None if at most `limit` tasks ended."""
    newest = select(TaskRun.finished_at).where(ended.clause()).order_by(TaskRun.finished_at.desc())
    return session.scalar(newest.offset(limit).limit(1))


def count_ends(session: Session, ended: EndedFilter) -> dict[GroupKey, EndCounts]:
    """Group → the numbers of tasks that ended, by how they ended."""
    states = (TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER, TaskState.CANCELLED, TaskState.EXPIRED)
    runs = select(TaskRun.name, TaskRun.queue, TaskRun.state, TaskRun.attempts).where(ended.clause()).cte("runs")
    counts = [count_of(runs.c.state == state) for state in states]
    parts = [
        select(literal(group_by.value), name, *counts, count_of(runs.c.attempts > 1)).group_by(name)
        for group_by, name in _groups(runs)
    ]
    rows: list[Any] = [*session.execute(union_all(*parts))]
    return {(GroupBy(group_by), name): EndCounts(*numbers) for group_by, name, *numbers in rows}


def durations(session: Session, ended: EndedFilter) -> dict[str, dict[GroupKey, Measured]]:
    """Kind → group → durations. The kinds are `waited` (see there), and `processed`: from the last start to the end."""
    times = {"waited": waited(), "processed": between(TaskRun.started_at, TaskRun.finished_at)}
    columns = [column.label(kind) for kind, column in times.items()]
    runs = select(TaskRun.name, TaskRun.queue, *columns).where(ended.clause()).cte("runs")
    parts: list[Select[Any]] = [
        _labelled(kind, group_by, select_measures(name, duration=runs.c[kind]))
        for kind in times
        for group_by, name in _groups(runs)
    ]
    found: dict[str, dict[GroupKey, Measured]] = {kind: {} for kind in times}
    rows: list[Any] = [*session.execute(union_all(*parts))]
    for kind, group_by, name, *row in rows:
        found[kind][GroupBy(group_by), name] = measured(*row)
    return found


def waited() -> ColumnElement[int]:
    """Microseconds from the moment at which the task could have been started to its last start, without its delay.

    A row without `ready_at` counts from its acceptance if it was started exactly once, and otherwise not at all.
    """
    since_acceptance = case((TaskRun.attempts == 1, between(TaskRun.accepted_at, TaskRun.started_at)))
    return func.coalesce(between(TaskRun.ready_at, TaskRun.started_at), since_acceptance).label("duration")


def _groups(runs: CTE) -> list[tuple[GroupBy, ColumnElement[str]]]:
    return [(GroupBy.TOTAL, literal(TOTAL)), (GroupBy.QUEUE, runs.c.queue), (GroupBy.NAME, runs.c.name)]


def _labelled(kind: str, group_by: GroupBy, measures: Any) -> Any:
    return measures.with_only_columns(literal(kind), literal(group_by.value), *measures.selected_columns)
