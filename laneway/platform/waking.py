"""Wakes tasks that wait for something else than a time: what they wait for has happened, so they are due now.

Such a task has stored what it waits for, has ended its attempt, and is scheduled for later. Whoever brings what it
waits for submits, in the same transaction, a task that wakes it. So no wake is lost, whatever dies in between.

A waiting task first commits its row of `task_waits`, and then looks whether the thing has happened. Whoever brings the
thing commits it, and the task that wakes looks for rows afterwards. So at least one of the two sees the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import update

from laneway.engine.wake import wake
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs, task_waits
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.db.session import Database
from laneway.platform.errors import TaskSnoozed
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.registry import registry
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.wakes import WAKE_ROLE
from laneway.schemas.payload import Wake
from laneway.schemas.task import TaskState

LOOK_AGAIN: Final = 3_600.0
"""Seconds after which a waiting task looks again by itself."""
LOOK_AGAIN_UNWOKEN: Final = 10.0
"""The same where nobody wakes it: without the delivery engine, or where the task that wakes is not registered."""
HELD_MARGIN: Final = 10.0
"""A task that a worker holds is tried again for the time of a lease, and these seconds more."""
FIRST_TRY, LONGEST_TRY = 0.1, 2.0
"""Seconds between two tries."""
PAGE: Final = 200


class Waker:
    """Wakes tasks."""

    def __init__(self, database: Database, broker: Broker, recorder: JournalRecorder, settings: TaskSettings) -> None:
        self._database, self._broker, self._recorder, self._settings = database, broker, recorder, settings

    @property
    def look_again(self) -> float:
        """The seconds for which a task may wait to be woken before it looks by itself."""
        is_woken = self._broker.engine is not None and registry.has_role(WAKE_ROLE)
        return LOOK_AGAIN if is_woken else LOOK_AGAIN_UNWOKEN

    def wake(self, asked: Wake) -> int:
        """Make the tasks due now that wait for something; return their number.

        An attempt may still be at its end that has not seen what happened. So while a worker holds one of the tasks,
        this raises TaskSnoozed, and the calling task tries again for the time of a lease. Raises BrokerUnavailable.
        """
        number, held = 0, 0
        for runs in self._waiting(asked):
            woken, leased = self._make_due(runs)
            number, held = number + len(woken), held + leased
            self._show_as_due(woken, asked.kind)
        waited = (clock.now() - asked.asked_at).total_seconds()
        if held and waited < self._settings.lease_seconds + HELD_MARGIN:
            raise TaskSnoozed(min(max(waited, FIRST_TRY), LONGEST_TRY), "a worker holds a task that is to be woken")
        return number

    def _waiting(self, asked: Wake) -> Iterator[Sequence[TaskRun]]:
        after = ""
        while True:
            with self._database.reading() as session:
                ids = task_waits.waiting_for(session, asked.kind, asked.targets, after=after, limit=PAGE)
                runs = task_runs.by_ids(session, ids)
            if not ids:
                return
            yield runs
            after = ids[-1]

    def _make_due(self, runs: Sequence[TaskRun]) -> tuple[list[TaskRun], int]:
        """The tasks that are due now, and the number of messages that workers hold."""
        woken, held = list[TaskRun](), 0
        engine = self._broker.engine
        if engine is None:
            return woken, held
        for run in runs:
            with self._broker.guarded():
                found = wake(engine, run.queue, run.id)
            held += found.leased
            if found.woken:
                woken.append(run)
        return woken, held

    def _show_as_due(self, woken: Sequence[TaskRun], kind: str) -> None:
        """Let the rows say what the broker knows."""
        if not woken:
            return
        self._recorder.catch_up_quietly(sorted({run.queue for run in woken}))
        ids = [run.id for run in woken]
        with self._database.transaction() as session:
            scheduled = (TaskRun.id.in_(ids), TaskRun.state == TaskState.SCHEDULED)
            session.execute(update(TaskRun).where(*scheduled).values(due_at=clock.now()))
            if kind == WaitKind.RESUME:  # the tasks of other waits delete their rows themselves
                task_waits.forget(session, ids, kind=WaitKind.RESUME)
