"""Queries over what has ended lately: how much, how well, how fast."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CTE, ColumnElement, Select, and_, case, func, literal, select, union_all
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.durations import TOTAL, Measured, Period, between, count_of, figures, measured, within
from laneway.platform.schemas.task import TaskState


class By(StrEnum):
    """What is grouped by; `TOTAL`: everything together."""

    TOTAL = "total"
    QUEUE = "queue"
    TYPE = "type"


@dataclass(frozen=True, slots=True)
class Which:
    """Tasks that ended in the period, of one queue or one type if so wanted."""

    period: Period
    queue: str | None = None
    name: str | None = None

    def clause(self) -> ColumnElement[bool]:
        """As a condition on `TaskRun`."""
        wanted = [within(TaskRun.finished_at, self.period)]
        wanted += [TaskRun.queue == self.queue] if self.queue is not None else []
        wanted += [TaskRun.name == self.name] if self.name is not None else []
        return and_(*wanted)


@dataclass(frozen=True, slots=True)
class Ended:
    """The tasks of one group, by how they ended."""

    completed: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    retried: int


Grouped = tuple[By, str]
"""What is grouped by, and the group's name."""


def earliest(session: Session, which: Which, *, most: int) -> datetime | None:
    """The moment from which on no more than `most` of them ended; None when there are no more in all."""
    newest = select(TaskRun.finished_at).where(which.clause()).order_by(TaskRun.finished_at.desc())
    return session.scalar(newest.offset(most).limit(1))


def ended(session: Session, which: Which) -> dict[Grouped, Ended]:
    """How many ended, and how."""
    states = (TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER, TaskState.CANCELLED, TaskState.EXPIRED)
    runs = select(TaskRun.name, TaskRun.queue, TaskRun.state, TaskRun.attempts).where(which.clause()).cte("runs")
    counted = [count_of(runs.c.state == state) for state in states]
    parts = [
        select(literal(by.value), name, *counted, count_of(runs.c.attempts > 1)).group_by(name)
        for by, name in _groups(runs)
    ]
    rows: list[Any] = [*session.execute(union_all(*parts))]
    return {(By(by), name): Ended(*counts) for by, name, *counts in rows}


def durations(session: Session, which: Which) -> dict[str, dict[Grouped, Measured]]:
    """`waited` and `processed` (from the last start to the end) → how long."""
    times = {"waited": waited(), "processed": between(TaskRun.started_at, TaskRun.finished_at)}
    columns = [column.label(kind) for kind, column in times.items()]
    runs = select(TaskRun.name, TaskRun.queue, *columns).where(which.clause()).cte("runs")
    parts: list[Select[Any]] = [
        _labelled(kind, by, figures(name, duration=runs.c[kind])) for kind in times for by, name in _groups(runs)
    ]
    found: dict[str, dict[Grouped, Measured]] = {kind: {} for kind in times}
    rows: list[Any] = [*session.execute(union_all(*parts))]
    for kind, by, name, *row in rows:
        found[kind][By(by), name] = measured(*row)
    return found


def waited() -> ColumnElement[int]:
    """How long a task that could have been started waited for its last start: no delay is part of it.

    Of tasks from before that was noted: from acceptance, if they were started once.
    """
    since_acceptance = case((TaskRun.attempts == 1, between(TaskRun.accepted_at, TaskRun.started_at)))
    return func.coalesce(between(TaskRun.ready_at, TaskRun.started_at), since_acceptance).label("duration")


def _groups(runs: CTE) -> list[tuple[By, ColumnElement[str]]]:
    return [(By.TOTAL, literal(TOTAL)), (By.QUEUE, runs.c.queue), (By.TYPE, runs.c.name)]


def _labelled(kind: str, by: By, measures: Any) -> Any:
    return measures.with_only_columns(literal(kind), literal(by.value), *measures.selected_columns)
