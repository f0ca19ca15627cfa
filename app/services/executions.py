"""From a delivered message to a recorded outcome.

1. `claim`: the ledger decides whether this delivery may run; a second delivery of the same task may not.
2. The task runs. Its outcome is a value.
3. `settle`: the outcome is written down, once, by whoever still owns the attempt.
4. Only then the message is acknowledged (Celery, acks late), and the next task of the same key is sent.

A crash after any step leaves a ledger row from which the steward goes on.
"""

from __future__ import annotations

import json
import random
import traceback as tracebacks
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.core import clock
from app.core.config import TaskSettings
from app.core.errors import InvalidPayload, PlatformError
from app.core.logging import logger
from app.core.retry import RetryPolicy
from app.db.models import TaskRun
from app.db.repositories import task_runs
from app.db.session import Database
from app.schemas.task import State
from app.services.task_manager import TaskManager

log = logger(__name__)

ERROR_LIMIT, TRACEBACK_LIMIT = 4_000, 16_000
"""Characters of an error and of its traceback that are kept; the end of a traceback says most."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The task returned."""

    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Raised:
    """The task raised; the policy decides whether it is tried again."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Stopped:
    """The task stopped because it was asked to."""


Outcome = Completed | Raised | Stopped


@dataclass(frozen=True, slots=True)
class Refused:
    """This delivery is not to be run."""

    reason: str


class Executions:
    """Claims and settles attempts."""

    def __init__(self, database: Database, tasks: TaskManager, settings: TaskSettings) -> None:
        self._database, self._tasks, self._settings = database, tasks, settings

    def claim(self, id: str, *, worker: str) -> TaskRun | Refused:
        """Start the task if it waits and its turn has come; else say why not."""
        run = self._try_claim(id, worker=worker)
        if run is not None:
            return run
        with self._database.transaction() as session:
            known = task_runs.find(session, id)
            if known is None:
                return Refused("it is not in the ledger")
            held = task_runs.hold(session, id)
        if not held:
            return Refused(f"it is {known.state}")
        # The task ahead may have finished between our look and our hold, when it saw nobody to send: look again.
        return self._try_claim(id, worker=worker) or Refused("an earlier task of its key is not finished")

    def adopt(self, values: dict[str, Any]) -> None:
        """Enter a task into the ledger that came by another way than the task manager (Beat, a shell)."""
        with self._database.transaction() as session:
            task_runs.add(session, **values)

    def known(self, id: str) -> bool:
        """Whether the ledger has this task."""
        with self._database.reading() as session:
            return task_runs.find(session, id) is not None

    def progress(self, run: TaskRun, *, percent: int, message: str | None) -> bool | None:
        """Store progress (0-100); True when the task was asked to stop, None when this attempt no longer owns it."""
        with self._database.transaction() as session:
            return task_runs.report_progress(session, run, percent=percent, message=message)

    def renew(self, owned: Sequence[TaskRun]) -> dict[task_runs.Attempt, bool]:
        """Extend the leases of attempts; attempt → stop requested, for those that still own their task."""
        with self._database.transaction() as session:
            return task_runs.renew(session, owned, lease_until=self._lease())

    def settle(
        self, run: TaskRun, outcome: Outcome, *, policy: RetryPolicy, lapsed_at: datetime | None = None
    ) -> State | None:
        """Write down what became of an attempt; None when it no longer owns the task, and changed nothing.

        `lapsed_at` is for whoever takes over: nothing is changed when the lease holds beyond that moment after all.
        """
        outcome = _storable(outcome)
        with self._database.transaction() as session:
            if isinstance(outcome, Raised):  # it may have been asked to stop without having noticed
                known = task_runs.find(session, run.id, lock=True)
                run.cancel_requested = run.cancel_requested or (known is not None and known.cancel_requested)
            values = self._verdict(run, outcome, policy)
            mine = task_runs.settle(session, run, lapsed_at=lapsed_at, **values)
        if not mine:
            log.warning("outcome refused: the attempt lost its lease", task_id=run.id, attempt=run.attempts)
            return None
        state = State(values["state"])
        if state is not State.SCHEDULED:
            self._release(run.key)
        return state

    def settle_lost(self, id: str, error: BaseException, *, worker: str) -> None:
        """Settle a task whose process died under it or was killed at the hard time limit, as its worker saw it."""
        with self._database.reading() as session:
            run = task_runs.find(session, id)
        if run is None or run.state != State.PROCESSING or run.worker != worker:
            return
        outcome = Stopped() if run.cancel_requested else Raised(error)
        state = self.settle(run, outcome, policy=self.policy(max_retries=run.max_retries))
        log.warning("task lost its process", task_id=id, task=run.name, error=str(error), now=state)

    def settle_terminated(self, id: str, *, worker: str) -> None:
        """Settle a task that an operator killed or revoked past the platform (Flower, `celery control`)."""
        with self._database.transaction() as session:
            run = task_runs.find(session, id)
            waiting = run is not None and task_runs.cancel_waiting(session, id, now=clock.now())
        if run is None or waiting:
            return self._release(run.key if run else None)
        if run.state == State.PROCESSING and run.worker == worker:
            self.settle(run, Stopped(), policy=self.policy(max_retries=0))
        return None

    def policy(self, *, max_retries: int, schedule: tuple[float, ...] | None = None) -> RetryPolicy:
        """The retry policy from the settings, with a task's own number of retries and schedule."""
        return RetryPolicy(
            max_retries=max_retries, delay=self._settings.retry_delay, delay_max=self._settings.retry_delay_max,
            schedule=schedule,
        )  # fmt: skip

    def _release(self, key: str | None) -> None:
        """Send the next of the key; what has been settled stays settled if that fails, and the steward does it."""
        try:
            self._tasks.release(key)
        except PlatformError as error:
            log.warning("not released now, the steward will", key=key, error=str(error))

    def _try_claim(self, id: str, *, worker: str) -> TaskRun | None:
        with self._database.transaction() as session:
            return task_runs.claim(session, id, worker=worker, now=clock.now(), lease_until=self._lease())

    def _lease(self) -> Any:
        return clock.now() + timedelta(seconds=self._settings.lease_seconds)

    def _verdict(self, run: TaskRun, outcome: Outcome, policy: RetryPolicy) -> dict[str, Any]:
        now = clock.now()
        if isinstance(outcome, Completed):
            return {"state": State.COMPLETED, "result": outcome.result, "progress": 100, "finished_at": now,
                    "error": None, "error_type": None, "traceback": None}  # fmt: skip
        if isinstance(outcome, Stopped):
            return {"state": State.CANCELLED, "finished_at": now}
        error = outcome.error
        told = {"error": _text(error)[:ERROR_LIMIT], "error_type": type(error).__name__,
                "traceback": _traceback(error)}  # fmt: skip
        if run.cancel_requested:
            return {"state": State.CANCELLED, "finished_at": now, **told}
        delay = policy.next_delay(error, attempts=run.attempts, random=random.random)
        if delay is not None:
            return {"state": State.SCHEDULED, "due_at": now + timedelta(seconds=delay), **told}
        exhausted = RetryPolicy(run.attempts, 0, 0).next_delay(error, attempts=run.attempts, random=random.random)
        state = State.FAILED if exhausted is None else State.DEAD_LETTER
        return {"state": state, "finished_at": now, **told}


def _storable(outcome: Outcome) -> Outcome:
    """The same, or what is wrong with its result: one that is not JSON would leave the task unsettled."""
    if isinstance(outcome, Completed):
        try:
            json.dumps(outcome.result, allow_nan=False)
        except (TypeError, ValueError) as error:
            return Raised(TypeError(f"the task's result is not JSON: {error}"))
    return outcome


def _traceback(error: BaseException) -> str | None:
    if isinstance(error, InvalidPayload) or error.__traceback__ is None:
        return None
    return "".join(tracebacks.format_exception(error))[-TRACEBACK_LIMIT:].replace("\x00", "")


def _text(error: BaseException) -> str:
    return (str(error) or type(error).__name__).replace("\x00", "")  # PostgreSQL stores no null bytes
