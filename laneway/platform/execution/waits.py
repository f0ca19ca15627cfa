"""Waits of tasks: for a time, a signal, another task, or a workflow. A waiting task gives its slot away.

The first attempt that comes to a wait stores what it waits for, and ends. Later attempts repeat the task up to there:
what is done is not done again, because results of steps and of waits are stored. If the thing has happened, its result
is stored, in one transaction with the deletion of the wait, and the task goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.models import TaskRun, TaskWait
from laneway.platform.db.queries import task_events, task_runs, task_waits
from laneway.platform.db.queries import workflows as workflow_runs
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PermanentError, StepTooLarge, TaskSnoozed
from laneway.platform.execution.outcomes import LONGEST_SNOOZE, Attempt
from laneway.platform.execution.steps import STEP_LIMIT, checked_name
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.registry import registry
from laneway.platform.sealing import Sealer, opened
from laneway.platform.wait_errors import WaitTimedOut
from laneway.platform.waking import Waker
from laneway.schemas.task import FINISHED
from laneway.schemas.workflow_run import RUN_OVER

SIGNAL_NAME: Final = 100
"""Characters of the name of a signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One wait of a task. `name`: which of its waits, the same in each attempt. `text` completes "It waits for …"."""

    name: str
    kind: WaitKind
    target: str
    text: str
    timeout: float | None = None
    """Seconds from now. None: no limit."""


Look = Callable[[Session], Any]
"""Returns what has happened, as JSON; None: it has not happened."""


class Waits:
    """The waits of one attempt."""

    def __init__(self, database: Database, recorder: JournalRecorder, sealer: Sealer, waker: Waker) -> None:
        self._database, self._recorder, self._sealer, self._waker = database, recorder, sealer, waker

    def sleep(self, attempt: Attempt, name: str, *, seconds: float) -> None:
        """Return when the time is over; raise TaskSnoozed before."""
        wanted = Wanted(name=name, kind=WaitKind.TIME, target="", text="the end of its sleep", timeout=seconds)
        self._wait(attempt, wanted, lambda _: None)

    def for_signal(self, attempt: Attempt, name: str, signal: str, *, timeout: float | None) -> dict[str, Any]:
        """The data of the oldest signal of this name that no wait has received."""
        if not 0 < len(signal) <= SIGNAL_NAME:
            raise PermanentError(f"The name of a signal must have 1 to {SIGNAL_NAME} characters.")

        def look(session: Session) -> dict[str, Any] | None:
            found = task_waits.next_signal(session, attempt.task_id, signal)
            if found is None:
                return None
            found.taken_by = name
            return {"data": found.data}

        target = task_waits.signal_target(attempt.task_id, signal)
        text = f"the signal {signal!r}"
        return self._wait(attempt, _wanted(name, WaitKind.SIGNAL, target, text, timeout), look)["data"]

    def for_task(self, attempt: Attempt, name: str, id: str, *, timeout: float | None) -> dict[str, Any]:
        """The end of a task: its state, result and error. Raises UnknownTask."""
        if id == attempt.task_id:
            raise PermanentError("A task cannot wait for itself: it would never end.")

        def look(session: Session) -> dict[str, Any] | None:
            run = task_runs.get(session, id, lock=True)
            if run.state in FINISHED:
                return {"state": run.state, "result": opened(run.result), "error": run.error}
            own = task_runs.find(session, attempt.task_id)
            if own is not None and run.key is not None and (run.key, run.queue) == (own.key, own.queue):
                raise PermanentError(
                    f"Task {id!r} has the same ordering key: it cannot start before this task has ended."
                )
            return None

        def bring_up_to_date() -> None:
            with self._database.reading() as session:
                queue = task_runs.get(session, id).queue
            self._recorder.catch_up_quietly([queue])

        wanted = _wanted(name, WaitKind.TASK, id, f"the task {id}", timeout)
        return self._wait(attempt, wanted, look, before=bring_up_to_date)

    def for_workflow(self, attempt: Attempt, name: str, id: str, *, timeout: float | None) -> dict[str, Any]:
        """The end of a run: its state, output and error. Raises NotFound."""

        def look(session: Session) -> dict[str, Any] | None:
            run = workflow_runs.find(session, id, lock=True)
            if run is None:
                raise NotFound("workflow", id)
            is_over = run.state in RUN_OVER
            return {"state": run.state, "output": run.output, "error": run.error} if is_over else None

        return self._wait(attempt, _wanted(name, WaitKind.WORKFLOW, id, f"the workflow {id}", timeout), look)

    def _wait(self, attempt: Attempt, wanted: Wanted, look: Look, *, before: Callable[[], None] | None = None) -> Any:
        """Return what the task waits for; raise TaskSnoozed until it is there, or WaitTimedOut.

        `before`: called between the storing of the wait and the look.
        """
        with self._database.reading() as session:
            stored = task_events.step(session, attempt.task_id, checked_name(wanted.name))
        if stored is not None:
            return opened(stored.result)
        until = self._begin(attempt, wanted)
        if before is not None:
            before()
        with self._database.transaction() as session:
            found = look(session)
            is_late = until is not None and clock.now() >= until
            if found is None and is_late and wanted.kind is WaitKind.TIME:
                found = dict[str, Any]()
            if found is not None:
                self._store(session, attempt, wanted, found)
                return found
            if is_late:
                row = task_waits.find(session, attempt.task_id, wanted.name)
                assert row is not None  # noqa: S101 - `_begin` has stored it
                row.timed_out = workflow_runs.times_sent_by_hand(session, attempt.task_id)
        if is_late:
            raise WaitTimedOut(wanted.text, wanted.timeout or 0)
        raise TaskSnoozed(self._delay(wanted.kind, until), f"it waits for {wanted.text}")

    def _begin(self, attempt: Attempt, wanted: Wanted) -> datetime | None:
        """Store the wait, unless an earlier attempt has; return when it is over. Raises WaitTimedOut if it was over.

        After a retry by hand, a wait that had timed out begins anew.
        """
        self._require_row(attempt)
        until = None if wanted.timeout is None else clock.now() + timedelta(seconds=min(wanted.timeout, LONGEST_SNOOZE))
        with self._database.transaction() as session:
            row = task_waits.find(session, attempt.task_id, wanted.name)
            if row is None:
                values: dict[str, Any] = {"kind": wanted.kind, "target": wanted.target, "until": until}
                session.add(TaskWait(task_id=attempt.task_id, name=wanted.name, created_at=clock.now(), **values))
                return until
            if row.timed_out is None:
                return row.until
            if workflow_runs.times_sent_by_hand(session, attempt.task_id) > row.timed_out:
                row.timed_out, row.until = None, until
                return until
        raise WaitTimedOut(wanted.text, wanted.timeout or 0)

    def _require_row(self, attempt: Attempt) -> None:
        """A task that was sent without the task manager gets its row when the journal is recorded."""
        with self._database.reading() as session:
            found: TaskRun | None = task_runs.find(session, attempt.task_id)
        if found is None:
            self._recorder.catch_up([attempt.queue])

    def _delay(self, kind: WaitKind, until: datetime | None) -> float:
        left = LONGEST_SNOOZE if until is None else max(0.0, (until - clock.now()).total_seconds())
        return left if kind is WaitKind.TIME else min(left, self._waker.look_again)

    def _store(self, session: Session, attempt: Attempt, wanted: Wanted, result: Any) -> None:
        size = len(json.dumps(result, allow_nan=False))
        if size > STEP_LIMIT:
            raise StepTooLarge(wanted.name, size, STEP_LIMIT)
        spec = registry.get(attempt.name)
        kept = result if spec is None else self._sealer.result(spec, result)
        task_events.save_step(
            session, attempt.task_id, wanted.name, result=kept, attempt=attempt.number, at=clock.now()
        )
        row = task_waits.find(session, attempt.task_id, wanted.name)
        if row is not None:
            session.delete(row)


def _wanted(name: str, kind: WaitKind, target: str, text: str, timeout: float | None) -> Wanted:
    return Wanted(name=name, kind=kind, target=target, text=text, timeout=timeout)
