"""Queries over submissions that share a key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import and_, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, defer

from laneway.platform.db.models import MergedSubmission, SubmissionSlot, SupersededTask, TaskRun, TaskTag
from laneway.platform.db.queries import task_events
from laneway.platform.errors import DatabaseBusy
from laneway.schemas.task import UNFINISHED

TRIES: Final = 10
"""A slot may be deleted with its task between the statements that make it and lock it; then both are tried again."""
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def lock_slot(session: Session, id: str, *, now: datetime) -> SubmissionSlot:
    """Return a slot, made if there is none. Nobody else gets it before the transaction ends. Raises DatabaseBusy."""
    new = _INSERT[session.connection().dialect.name](SubmissionSlot).values(id=id, since=now, merged=0)
    wanted = select(SubmissionSlot).where(SubmissionSlot.id == id).with_for_update()
    for _ in range(TRIES):
        session.execute(new.on_conflict_do_nothing())
        found = session.scalars(wanted, execution_options={"populate_existing": True}).one_or_none()
        if found is not None:
            return found
    raise DatabaseBusy("a key of submissions was deleted again and again")


def find_merged(session: Session, id: str) -> MergedSubmission | None:
    """The submission with this id for which another task stands."""
    return session.get(MergedSubmission, id)


def add_merged(session: Session, id: str, *, task_id: str, fingerprint: str) -> None:
    """Remember for which task this id stands; an id that is known stays as it is."""
    new = _INSERT[session.connection().dialect.name](MergedSubmission)
    values = new.values(id=id, task_id=task_id, fingerprint=fingerprint)
    session.execute(values.on_conflict_do_nothing())


def replace_tags(session: Session, task_id: str, tags: Sequence[str]) -> None:
    """Give a task other tags."""
    session.execute(delete(TaskTag).where(TaskTag.task_id == task_id))
    task_events.add_tags(session, task_id, tags)


def unfinished(session: Session, names: Collection[str], key: str, *, limit: int) -> Sequence[TaskRun]:
    """The unfinished tasks of these names and this ordering key, newest first, without their payloads."""
    wanted = (TaskRun.key == key, TaskRun.state.in_(UNFINISHED), TaskRun.name.in_(names))
    found = select(TaskRun).where(*wanted).order_by(TaskRun.seq.desc()).limit(limit)
    return session.scalars(found.options(defer(TaskRun.payload), defer(TaskRun.result), defer(TaskRun.raw))).all()


def supersede(session: Session, runs: Sequence[TaskRun], *, by: str, only_waiting: bool) -> None:
    """Store that these tasks are to be stopped. A task that is to be stopped anyway stays so."""
    new = _INSERT[session.connection().dialect.name](SupersededTask)
    rows = new.values([{"task_id": run.id, "by": by, "only_waiting": only_waiting} for run in runs])
    both = and_(rows.excluded.only_waiting, SupersededTask.only_waiting)
    session.execute(
        rows.on_conflict_do_update(index_elements=[SupersededTask.task_id], set_={"only_waiting": both, "by": by})
    )


def superseded(session: Session, *, by: Sequence[str] | None = None, limit: int) -> Sequence[SupersededTask]:
    """Tasks that are still to be stopped. `by`: only those that these tasks replace."""
    wanted = select(SupersededTask).order_by(SupersededTask.task_id).limit(limit)
    return session.scalars(wanted if by is None else wanted.where(SupersededTask.by.in_(by))).all()


def forget_superseded(session: Session, task_id: str) -> None:
    """Note that a task is stopped, or that it goes on."""
    session.execute(delete(SupersededTask).where(SupersededTask.task_id == task_id))
