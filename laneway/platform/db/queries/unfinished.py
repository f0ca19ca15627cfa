"""Reads what is not finished yet, in batches, by columns that every version has: tables may be older than the code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, inspect, select
from sqlalchemy.orm import Session, load_only

from laneway.platform.db.models import StoredSchedule, TaskRun, WorkflowRun, WorkflowStepRun
from laneway.platform.db.session import Database
from laneway.schemas.task import TaskState
from laneway.schemas.workflow_run import RUN_OVER

BATCH = 250
"""Rows of one read; each may hold a payload of 1 MiB."""
UNFINISHED_TASKS = TaskRun.finished_at.is_(None)
DEAD_LETTERS = and_(TaskRun.state == TaskState.DEAD_LETTER, TaskRun.trashed_at.is_(None))


class Call(NamedTuple):
    """A task that was accepted, as its row has it."""

    seq: int
    id: str
    name: str
    queue: str
    state: str
    payload: dict[str, Any]
    options: dict[str, Any]


def has_table(database: Database, name: str) -> bool:
    """Whether the database has this table. Raises DatabaseUnavailable."""
    with database.reading() as session:
        return inspect(session.connection()).has_table(name)


def count(session: Session, which: ColumnElement[bool]) -> int:
    """The number of tasks."""
    return session.scalar(select(func.count()).select_from(TaskRun).where(which)) or 0


def calls(database: Database, which: ColumnElement[bool]) -> Iterator[list[Call]]:
    """Yield the tasks in the order of their submission. Each batch is a read of its own."""
    columns = (TaskRun.seq, TaskRun.id, TaskRun.name, TaskRun.queue, TaskRun.state, TaskRun.payload, TaskRun.options)
    after = 0
    while True:
        with database.reading() as session:
            found = select(*columns).where(which, TaskRun.seq > after).order_by(TaskRun.seq).limit(BATCH)
            page = [Call(*row) for row in session.execute(found)]
        if not page:
            return
        yield page
        after = page[-1].seq


def options_of(session: Session, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Id → the options of the row, for the tasks that have one."""
    rows = session.execute(select(TaskRun.id, TaskRun.options).where(TaskRun.id.in_(ids)))
    return {row.id: row.options for row in rows}


def open_runs(database: Database) -> Iterator[list[tuple[WorkflowRun, list[WorkflowStepRun]]]]:
    """Yield the runs of workflows that are not over, each with the visits of its steps."""
    columns = (WorkflowRun.seq, WorkflowRun.id, WorkflowRun.type, WorkflowRun.version, WorkflowRun.definition)
    visits = (WorkflowStepRun.run_id, WorkflowStepRun.step, WorkflowStepRun.visit)
    states = (WorkflowStepRun.state, WorkflowStepRun.superseded_by)
    after = 0
    while True:
        with database.reading() as session:
            is_open = (WorkflowRun.state.not_in(RUN_OVER), WorkflowRun.seq > after)
            found = select(WorkflowRun).options(load_only(*columns)).where(*is_open).order_by(WorkflowRun.seq)
            runs = session.scalars(found.limit(BATCH)).all()
            steps = select(WorkflowStepRun).options(load_only(*visits, *states))
            rows = session.scalars(steps.where(WorkflowStepRun.run_id.in_([run.id for run in runs]))).all()
        if not runs:
            return
        yield [(run, [row for row in rows if row.run_id == run.id]) for run in runs]
        after = runs[-1].seq


def schedules(database: Database) -> Sequence[StoredSchedule]:
    """The schedules that are in force or paused."""
    columns = (StoredSchedule.key, StoredSchedule.source, StoredSchedule.definition, StoredSchedule.paused_at)
    with database.reading() as session:
        found = select(StoredSchedule).options(load_only(*columns)).where(StoredSchedule.removed_at.is_(None))
        return session.scalars(found.order_by(StoredSchedule.key)).all()
