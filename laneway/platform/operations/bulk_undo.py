"""Takes actions on many tasks back, for an hour.

A cancel: tasks that waited wait again, with their due time and expiry. Tasks that ran stay cancelled, and so
do the effects of an `on_failure` task. A new priority: tasks that still wait get their old one. A replay: copies that
have not started are cancelled. An undo may take several calls. Each deletes what it has settled, so it can be repeated
after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from laneway.platform import clock
from laneway.platform.access.bounds import covers
from laneway.platform.access.caller import Caller, current_caller
from laneway.platform.db.models import BulkAction, BulkActionTask, TaskRun
from laneway.platform.db.queries import bulk_actions, task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PlatformError, UnknownTask
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.task_manager import TaskManager
from laneway.schemas.bulk import BulkActionView, UndoResponse

log = logger(__name__)

UNDO_FOR: Final = timedelta(hours=1)
LISTED_FOR: Final = timedelta(days=1)
MOST: Final = 1000
"""Tasks of one call."""
MOST_LISTED: Final = 100


class TooLateToUndo(PlatformError):
    """The time in which an action can be undone is over."""

    status, title = 409, "Too late to undo"

    template = "The action {id!r} began at {at:%Y-%m-%d %H:%M:%S} UTC. It can be undone for an hour."
    id: str
    at: datetime


class OtherAction(PlatformError):
    """A call names an action to which it does not belong."""

    status, title = 409, "Another action"

    template = "The action {id!r} is {problem}: leave `action` out, and a new one begins."
    id: str
    problem: str


class BulkUndo:
    """Records actions on many tasks, and takes them back."""

    def __init__(self, database: Database, recorder: JournalRecorder, tasks: TaskManager) -> None:
        self._database, self._recorder, self._tasks = database, recorder, tasks

    def begin(self, kind: str, *, known: str | None) -> BulkAction:
        """Store an action of this kind, or return the `known` one, which goes on. Raises NotFound, OtherAction."""
        caller, now = current_caller(), clock.now()
        with self._database.transaction() as session:
            if known is None:
                action = BulkAction(id=uuid4().hex, kind=kind, at=now, by=caller.name[:200], tasks=0)
                session.add(action)
                return action
            action = _visible(caller, bulk_actions.find(session, known), known)
            if action.kind != kind:
                raise OtherAction(known, f"one of the kind {action.kind}")
            if action.undone_at is not None or action.at + UNDO_FOR < now:
                raise OtherAction(known, "undone" if action.undone_at else "more than an hour old")
            return action

    def listing(self) -> list[BulkActionView]:
        """The actions of the last day that the caller may see, newest first."""
        caller = current_caller()
        with self._database.reading() as session:
            since, by = clock.now() - LISTED_FOR, caller.name if caller.is_bound else None
            found = bulk_actions.page(session, since=since, by=by, limit=MOST_LISTED)
            left = bulk_actions.count_tasks(session, [action.id for action in found])
        return [_view(action, left.get(action.id, 0)) for action in found]

    def undo(self, id: str) -> UndoResponse:
        """Take an action back, at most `MOST` tasks a call. Raises NotFound, TooLateToUndo."""
        caller = current_caller()
        with self._database.transaction() as session:
            action = _visible(caller, bulk_actions.find(session, id, lock=True), id)
            if clock.now() > action.at + UNDO_FOR:
                raise TooLateToUndo(id, action.at)
            if action.undone_at is None:
                action.undone_at, action.undone_by = clock.now(), caller.name[:200]
            rows = bulk_actions.tasks_of(session, id, limit=MOST)
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            found = task_runs.by_ids(session, [row.task_id for row in rows])
        runs = [run for run in found if covers(caller, run.id, name=run.name, queue=run.queue)]
        refused = {row.task_id: str(UnknownTask(row.task_id)) for row in rows}
        refused = {id: text for id, text in refused.items() if id not in {run.id for run in runs}}
        done, failed = self._take_back(action.kind, runs, rows)
        with self._database.transaction() as session:
            bulk_actions.forget_tasks(session, id, [row.task_id for row in rows])
        log.info("action undone", action=id, kind=action.kind, tasks=done)
        return UndoResponse(action=id, kind=action.kind, done=done, refused=refused | failed, more=len(rows) == MOST)

    def _take_back(
        self, kind: str, runs: Sequence[TaskRun], rows: Sequence[BulkActionTask]
    ) -> tuple[int, dict[str, str]]:
        before = {row.task_id: row.before for row in rows}
        if kind == "cancel":
            return self._tasks.restore_many(runs, before)
        if kind == "reprioritise":
            priorities = {id: int(kept["priority"]) for id, kept in before.items()}
            return self._tasks.reprioritise_many(runs, priorities, action="task.undo_reprioritise")
        started = {run.id: f"Task {run.id!r} has started." for run in runs if run.started_at is not None}
        waiting = [run for run in runs if run.id not in started]
        done, refused = self._tasks.cancel_many(waiting, action="task.undo_replay")
        return done, refused | started


def _visible(caller: Caller, action: BulkAction | None, id: str) -> BulkAction:
    """The action, if the caller may see it. Raises NotFound."""
    if action is None or (caller.is_bound and action.by != caller.name[:200]):
        raise NotFound("action", id)
    return action


def _view(action: BulkAction, left: int) -> BulkActionView:
    return BulkActionView(
        action=action.id,
        kind=action.kind,
        at=action.at,
        by=action.by,
        tasks=action.tasks,
        undoable=left if clock.now() <= action.at + UNDO_FOR else 0,
        undo_until=action.at + UNDO_FOR,
        undone_at=action.undone_at,
        undone_by=action.undone_by,
    )
