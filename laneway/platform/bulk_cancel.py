"""Cancels many tasks, a page at a time, each as `TaskControl.cancel` does.

A page takes a few transactions and one round trip to the broker for each queue, however many tasks it has. The first
transaction ends the tasks that no sender has taken, and records the request and what an undo needs. Then the broker
removes the messages of the others, and its journal tells which of them are cancelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy.orm import Session

from laneway.engine.waiting_messages import cancel_many
from laneway.platform import clock
from laneway.platform.audit_log.recording import record_many
from laneway.platform.broker import Broker
from laneway.platform.bulk import in_pages
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import bulk_actions, task_events, task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError, UnknownTask, WrongState
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.put_conditions import version_of
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.outbox import Outbox
from laneway.platform.task_control import described
from laneway.schemas.task import FINISHED, WAITING, TaskState

log = logger(__name__)

PAGE: Final = 200


class BulkCancel:
    """Cancels tasks that are not over."""

    def __init__(
        self, database: Database, broker: Broker, recorder: JournalRecorder, outbox: Outbox, settings: TaskSettings
    ) -> None:
        self._database, self._broker, self._recorder = database, broker, recorder
        self._outbox, self._settings = outbox, settings

    def cancel(
        self, runs: Iterable[TaskRun], *, action: str = "task.cancel", of: str | None = None
    ) -> tuple[int, dict[str, str]]:
        """Cancel them. Returns how many never run or were asked to stop, and id → reason for the others.

        `action`: the name in the audit log. `of`: the bulk action under which an undo finds those that wait.
        """
        done, refused = 0, dict[str, str]()
        for page in in_pages(runs, PAGE):
            try:
                done += self._cancel_page([run.id for run in page], refused, action, of)
            except PlatformError as error:
                refused.update({run.id: str(error) for run in page if run.id not in refused})
        return done, refused

    def _cancel_page(self, ids: Sequence[str], refused: dict[str, str], action: str, of: str | None) -> int:
        runs, ended = self._request(ids, refused, action, of)
        others = [run for run in runs if run.id not in ended]
        removed = self._cancel_messages([run for run in runs if run.published_at is not None], refused)
        left = [run.id for run in others if run.id not in removed and run.id not in refused]
        self._cancel_rows(left)
        self._recorder.catch_up_quietly(sorted({run.queue for run in others}))
        self._cancel_lost([run for run in others if run.id not in refused])
        done = self._check([run.id for run in others if run.id not in refused], refused)
        log.info("tasks cancelled", tasks=len(ended) + done)
        return len(ended) + done

    def _request(
        self, ids: Sequence[str], refused: dict[str, str], action: str, of: str | None
    ) -> tuple[list[TaskRun], set[str]]:
        """Record the request, and end the tasks in the outbox; returns the tasks, and the ids of those that ended."""
        with self._database.transaction() as session:
            found = {run.id: run for run in task_runs.by_ids(session, ids, lock=True)}
            for id in ids:
                if id not in found:
                    refused[id] = str(UnknownTask(id))
                elif found[id].state in FINISHED:
                    refused[id] = str(WrongState(id, found[id].state, "cancelled"))
            runs, now = [found[id] for id in ids if id not in refused], clock.now()
            events = [_event(run.id, now) for run in runs]
            task_events.add_events(session, events)
            before = [(("task", run.id), described(run)) for run in runs]
            if of is not None:
                waiting = {run.id: waiting_state(run) for run in runs if run.state in WAITING}
                bulk_actions.note(session, of, waiting, tasks=len(runs))
            unsent = [run for run in runs if run.state == TaskState.ACCEPTED]
            self._end(session, unsent)
            record_many(session, action, before)
        return runs, {run.id for run in unsent}

    def _cancel_messages(self, runs: Sequence[TaskRun], refused: dict[str, str]) -> set[str]:
        """Cancel the messages of these tasks; returns the ids of those that had one."""
        by_queue, removed = defaultdict[str, list[TaskRun]](list), set[str]()
        for run in runs if self._broker.engine is not None else ():
            by_queue[run.queue].append(run)
        for queue, group in by_queue.items():
            try:
                with self._broker.guarded():
                    engine = self._broker.require_engine("cancelling many tasks")
                    results = cancel_many(engine, queue, [(run.id, version_of([run])) for run in group])
            except PlatformError as error:
                refused.update({run.id: str(error) for run in group if run.state != TaskState.CANCELLED})
                continue
            removed |= {run.id for run, result in zip(group, results, strict=True) if result.removed or result.marked}
        return removed

    def _cancel_rows(self, ids: Sequence[str]) -> None:
        """Cancel those that wait, and ask those that run to stop: the broker has no message of them."""
        if not ids:
            return
        with self._database.transaction() as session:
            runs = task_runs.by_ids(session, ids, lock=True)
            waiting = [run for run in runs if run.state in WAITING]
            self._end(session, waiting)
            for run in runs:
                run.cancel_requested = run.cancel_requested or run.state == TaskState.PROCESSING
        for run in waiting:
            self._outbox.cancellation.withdraw(run)

    def _end(self, session: Session, runs: Sequence[TaskRun]) -> None:
        for run in runs:
            run.state, run.finished_at, run.due_at = TaskState.CANCELLED, clock.now(), None
        session.flush()
        submit_on_failure(session, runs, self._settings)

    def _cancel_lost(self, runs: Sequence[TaskRun]) -> None:
        """Cancel those that still wait although the broker has no message of them: their queue had no journal."""
        with self._database.reading() as session:
            states = {run.id: run.state for run in task_runs.by_ids(session, [run.id for run in runs])}
        lost: list[str] = []
        for queue in {run.queue for run in runs}:
            ids = [run.id for run in runs if run.queue == queue and states.get(run.id) in WAITING]
            messages = self._broker.find(queue, ids) if ids else None
            lost += [id for id, message in zip(ids, messages or (), strict=False) if message is None]
        self._cancel_rows(lost)

    def _check(self, ids: Sequence[str], refused: dict[str, str]) -> int:
        """How many of these are cancelled or were asked to stop; those that ended otherwise are refused."""
        with self._database.reading() as session:
            states = {run.id: run.state for run in task_runs.by_ids(session, ids)}
        for id in ids:
            state = states.get(id, TaskState.CANCELLED)  # deleted meanwhile
            if state in FINISHED and state != TaskState.CANCELLED:
                refused[id] = str(WrongState(id, state, "cancelled"))
        return sum(id not in refused for id in ids)


def waiting_state(run: TaskRun) -> dict[str, Any]:
    """What an undo needs to let a cancelled task wait again."""
    return {
        "attempts": run.attempts_before + run.attempts,
        "due_at": run.due_at.isoformat() if run.due_at else None,
        "expires_at": run.expires_at.isoformat() if run.expires_at else None,
    }


def _event(task_id: str, at: Any) -> dict[str, Any]:
    return {"task_id": task_id, "at": at, "kind": "cancel requested", "attempt": None, "data": {}}
