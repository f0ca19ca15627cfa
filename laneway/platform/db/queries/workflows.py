"""Queries over runs of workflows. To change a run, lock its row first and read its steps afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, defer

from laneway.platform.db.models import TaskEvent, TaskRun, WorkflowMetric, WorkflowRun, WorkflowSignal, WorkflowStepRun
from laneway.schemas.task import FINISHED
from laneway.schemas.workflow_run import RUN_OVER, RunState, StepState

BY_HAND = ("retried by hand", "cancel undone", "requeue")
"""The kinds of events by which an operator runs a finished task again."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Selects runs; a field that is not set selects all."""

    states: tuple[RunState, ...] = ()
    type: str | None = None


def add(session: Session, **values: Any) -> WorkflowRun | None:
    """Add a run; None: its id is taken."""
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    new = dialect.insert(WorkflowRun).values(**values).on_conflict_do_nothing(index_elements=[WorkflowRun.id])
    return session.scalars(new.returning(WorkflowRun)).one_or_none()


def find(session: Session, id: str, *, lock: bool = False) -> WorkflowRun | None:
    """The run with this id. With `lock`, the run and its steps cannot change before the transaction ends."""
    if "\x00" in id:
        return None  # PostgreSQL refuses to compare a null byte
    statement = select(WorkflowRun).where(WorkflowRun.id == id)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def depth(session: Session, id: str, *, most: int) -> int:
    """How many runs, of which each was started by a step of the one before, lead to this one; counted up to `most`."""
    number, parent = 1, session.scalar(select(WorkflowRun.parent_id).where(WorkflowRun.id == id))
    while parent is not None and number < most:
        number, parent = number + 1, session.scalar(select(WorkflowRun.parent_id).where(WorkflowRun.id == parent))
    return number


def settled(session: Session, id: str) -> bool:
    """Whether a run cannot change any more: the run and all its tasks have ended. True for an unknown run."""
    run = find(session, id)
    if run is None or run.state not in RUN_OVER:
        return run is None
    steps = select(WorkflowStepRun.task_id).where(WorkflowStepRun.run_id == id, WorkflowStepRun.task_id.is_not(None))
    unfinished = select(TaskRun.id).where(TaskRun.id.in_(steps), TaskRun.state.not_in(FINISHED)).limit(1)
    return session.scalars(unfinished).first() is None


def page(session: Session, filters: RunFilter, *, before: int | None, limit: int) -> Sequence[WorkflowRun]:
    """A page of runs, newest first, without the large columns. `before`: the last `seq` of the previous page."""
    large = (WorkflowRun.definition, WorkflowRun.input, WorkflowRun.output)
    statement = select(WorkflowRun).options(*map(defer, large)).order_by(WorkflowRun.seq.desc()).limit(limit)
    if filters.states:
        statement = statement.where(WorkflowRun.state.in_(filters.states))
    if filters.type is not None:
        statement = statement.where(WorkflowRun.type == filters.type)
    return session.scalars(statement.where(WorkflowRun.seq < before) if before else statement).all()


def begin(session: Session, id: str, *, now: datetime) -> None:
    """Store that the first step of a run has started."""
    session.execute(
        update(WorkflowRun)
        .where(WorkflowRun.id == id, WorkflowRun.state == RunState.PENDING)
        .values(state=RunState.RUNNING, started_at=now)
    )


def steps(session: Session, run_id: str) -> Sequence[WorkflowStepRun]:
    """Every visit of every step of a run, in the order of their creation."""
    order = (WorkflowStepRun.created_at, WorkflowStepRun.visit, WorkflowStepRun.step)
    return session.scalars(select(WorkflowStepRun).where(WorkflowStepRun.run_id == run_id).order_by(*order)).all()


def step(session: Session, run_id: str, step: str, visit: int) -> WorkflowStepRun | None:
    """One visit of a step."""
    return session.get(WorkflowStepRun, (run_id, step, visit))


def step_of_task(session: Session, task_id: str) -> WorkflowStepRun | None:
    """The visit whose task this is."""
    return session.scalars(select(WorkflowStepRun).where(WorkflowStepRun.task_id == task_id)).one_or_none()


def tasks_of(session: Session, ids: Sequence[str]) -> dict[str, TaskRun]:
    """Id → row of each of these tasks that exists."""
    return {run.id: run for run in session.scalars(select(TaskRun).where(TaskRun.id.in_(ids)))}


def times_sent_by_hand(session: Session, task_id: str) -> int:
    """How often an operator has run this finished task again."""
    statement = select(func.count()).select_from(TaskEvent)
    return session.scalar(statement.where(TaskEvent.task_id == task_id, TaskEvent.kind.in_(BY_HAND))) or 0


def signal(session: Session, run_id: str, name: str, key: str) -> WorkflowSignal | None:
    """A signal by its key."""
    conditions = (WorkflowSignal.run_id == run_id, WorkflowSignal.name == name, WorkflowSignal.key == key)
    return session.scalars(select(WorkflowSignal).where(*conditions)).one_or_none()


def count_signals(session: Session, run_id: str) -> int:
    """The number of signals that were sent to a run."""
    statement = select(func.count()).select_from(WorkflowSignal).where(WorkflowSignal.run_id == run_id)
    return session.scalar(statement) or 0


def next_signal(session: Session, run_id: str, name: str) -> WorkflowSignal | None:
    """The oldest signal of this name that no visit has received."""
    conditions = (WorkflowSignal.run_id == run_id, WorkflowSignal.name == name, WorkflowSignal.visit.is_(None))
    return session.scalars(
        select(WorkflowSignal).where(*conditions).order_by(WorkflowSignal.seq).limit(1)
    ).one_or_none()


def metrics(session: Session, run_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Run → name → value of each metric."""
    found: dict[str, dict[str, int]] = {}
    for metric in session.scalars(select(WorkflowMetric).where(WorkflowMetric.run_id.in_(run_ids))):
        found.setdefault(metric.run_id, {})[metric.name] = metric.value
    return found


def set_metrics(session: Session, run_id: str, figures: dict[str, int], *, at: datetime) -> None:
    """Store metrics of a run. They replace older ones of the same name."""
    if figures:
        old = (WorkflowMetric.run_id == run_id, WorkflowMetric.name.in_(figures))
        session.execute(delete(WorkflowMetric).where(*old))
        rows = [{"run_id": run_id, "name": name, "value": value, "at": at} for name, value in figures.items()]
        session.execute(insert(WorkflowMetric), rows)


@dataclass(frozen=True, slots=True)
class TypeFigures:
    """The runs of one type that were accepted in a period: their number by state, and metrics of the completed ones."""

    type: str
    states: dict[str, int]
    mean_duration_ms: float | None
    total: int
    """The sum of the requested metric."""


def figures(session: Session, *, start: datetime, end: datetime, total_of: str) -> list[TypeFigures]:
    """The runs that were accepted from `start` up to `end`, exclusive, by type. `total_of`: the metric to add up."""
    accepted = (WorkflowRun.accepted_at >= start, WorkflowRun.accepted_at < end)
    states: dict[str, dict[str, int]] = {}
    counted = select(WorkflowRun.type, WorkflowRun.state, func.count()).where(*accepted)
    for type, state, count in session.execute(counted.group_by(WorkflowRun.type, WorkflowRun.state)):
        states.setdefault(type, {})[state] = count
    measured = (
        select(WorkflowRun.type, WorkflowMetric.name, func.avg(WorkflowMetric.value), func.sum(WorkflowMetric.value))
        .join(WorkflowMetric, WorkflowMetric.run_id == WorkflowRun.id)
        .where(*accepted, WorkflowRun.state == RunState.COMPLETED, WorkflowMetric.name.in_(("duration_ms", total_of)))
        .group_by(WorkflowRun.type, WorkflowMetric.name)
    )
    found = {(type, name): (float(mean), int(total)) for type, name, mean, total in session.execute(measured)}
    return [
        TypeFigures(
            type, counts, found.get((type, "duration_ms"), (None, 0))[0], found.get((type, total_of), (0, 0))[1]
        )
        for type, counts in sorted(states.items())
    ]


def open_steps(session: Session, run_id: str) -> Sequence[WorkflowStepRun]:
    """The open and the cancelled visits of a run."""
    states = (StepState.OPEN, StepState.CANCELLED)
    conditions = (WorkflowStepRun.run_id == run_id, WorkflowStepRun.state.in_(states))
    return session.scalars(select(WorkflowStepRun).where(*conditions)).all()
