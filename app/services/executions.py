"""From a delivered message to a recorded outcome.

1. `claim`: the ledger notes the attempt; what is over already, or runs elsewhere, is not run.
2. The task runs. Its outcome is a value.
3. `settle`: the outcome is written down, once, by whoever still owns the attempt; a retry is sent with its delay.
4. Only then the message is acknowledged (Celery, acks late), and the next of its ordering key may go.

After a crash at any step the message is still leased: it is delivered again, and claimed anew.
"""

from __future__ import annotations

import json
import random
import traceback as tracebacks
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.core import clock
from app.core.config import TaskSettings
from app.core.errors import InvalidPayload, PlatformError, WorkerLost
from app.core.logging import logger
from app.core.retry import RetryPolicy
from app.db.models import TaskRun
from app.db.repositories import task_runs, workers
from app.db.session import Database
from app.schemas.task import WAITING, State
from app.services.task_manager import TaskManager

log = logger(__name__)

ALIVE_SHARE = 0.6
"""Of a lease: leases are renewed every third, so one that is over was held by a process that has been silent longer."""
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
    """This delivery is not to be run; `busy`: not now, because a living worker runs the task."""

    reason: str
    busy: bool = False


class Executions:
    """Claims and settles attempts."""

    def __init__(self, database: Database, tasks: TaskManager, settings: TaskSettings) -> None:
        self._database, self._tasks, self._settings = database, tasks, settings

    def claim(self, id: str, *, worker: str, lost_attempt: int = 0) -> TaskRun | Refused:
        """Start a task; one whose worker died is taken over, and that attempt is settled as lost.

        `lost_attempt`: the number of an attempt that is over for certain, though its worker lives.
        """
        for _ in range(3):
            with self._database.transaction() as session:
                run = task_runs.claim(session, id, worker=worker, now=clock.now())
                known = run or task_runs.find(session, id)
                busy = known is not None and known.state == State.PROCESSING and self._lives(session, known)
            if run is not None:
                return run
            if known is None:
                return Refused("it is not in the ledger")
            if known.state in WAITING:
                continue  # it was taken over, or settled for a retry, between the two looks
            if known.state != State.PROCESSING:
                return Refused(f"it is {known.state}")
            if busy and known.attempts != lost_attempt:
                return Refused(f"{known.worker} runs it", busy=True)
            self.take_over(known, send=False)
        return Refused("others claim it at the same time", busy=True)

    def take_over(self, run: TaskRun, *, send: bool = True) -> State | None:
        """Settle an attempt as lost with its worker: it is due at once, or dead after too many attempts."""
        policy = self.policy(max_retries=run.max_retries, schedule=(0.0,))
        state = self.settle(run, Raised(WorkerLost(run.worker or "?")), policy=policy, send=send)
        if state is not None:
            log.warning("task taken over from a lost worker", task_id=run.id, task=run.name, lost_worker=run.worker,
                        attempt=run.attempts, now=state)  # fmt: skip
        return state

    def bury(self, run: TaskRun, error: PlatformError) -> bool:
        """Settle a task whose message the broker made a dead letter; False when it has moved on since."""
        values = {"state": State.DEAD_LETTER, "finished_at": clock.now(), "error": str(error)[:ERROR_LIMIT],
                  "error_type": type(error).__name__}  # fmt: skip
        with self._database.transaction() as session:
            buried = task_runs.bury(session, run, **values)
        if buried:
            log.warning("task buried by the broker", task_id=run.id, task=run.name, error=str(error))
        return buried

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

    def asked_to_stop(self, owned: Sequence[TaskRun]) -> dict[task_runs.Attempt, bool]:
        """Attempt → stop requested, for those of these attempts that still own their task."""
        with self._database.reading() as session:
            return task_runs.asked_to_stop(session, owned)

    def settle(self, run: TaskRun, outcome: Outcome, *, policy: RetryPolicy, send: bool = True) -> State | None:
        """Write down what became of an attempt; None when it no longer owns the task, and changed nothing.

        A retry is sent, unless `send` is false: then the caller goes on with the message that it has.
        """
        outcome = _storable(outcome)
        with self._database.transaction() as session:
            if isinstance(outcome, Raised):  # it may have been asked to stop without having noticed
                known = task_runs.find(session, run.id, lock=True)
                run.cancel_requested = run.cancel_requested or (known is not None and known.cancel_requested)
            values = self._verdict(run, outcome, policy)
            mine = task_runs.settle(session, run, **values)
        if not mine:
            log.warning("outcome refused: the attempt lost its lease", task_id=run.id, attempt=run.attempts)
            return None
        state = State(values["state"])
        if state is State.SCHEDULED and send:
            self._tasks.send_or_later(run, delay=(values["due_at"] - values["published_at"]).total_seconds())
        return state

    def settle_lost(self, id: str, error: BaseException, *, worker: str) -> None:
        """Settle a task whose process died under it or was killed at the hard time limit, as its worker saw it."""
        with self._database.reading() as session:
            run = task_runs.find(session, id)
        if run is None or run.state != State.PROCESSING or run.worker != worker:
            return
        outcome = Stopped() if run.cancel_requested else Raised(error)
        at_once = (0.0,) if run.attempts == 1 else None  # a second loss may be the task's own doing
        state = self.settle(run, outcome, policy=self.policy(max_retries=run.max_retries, schedule=at_once))
        log.warning("task lost its process", task_id=id, task=run.name, error=str(error), now=state)

    def settle_terminated(self, id: str, *, worker: str) -> None:
        """Settle a task that an operator killed or revoked past the platform (Flower, `celery control`)."""
        with self._database.transaction() as session:
            run = task_runs.find(session, id)
            waiting = run is not None and task_runs.cancel_waiting(session, id, now=clock.now())
        if run is not None and not waiting and run.state == State.PROCESSING and run.worker == worker:
            self.settle(run, Stopped(), policy=self.policy(max_retries=0))

    def policy(self, *, max_retries: int, schedule: tuple[float, ...] | None = None) -> RetryPolicy:
        """The retry policy from the settings, with a task's own number of retries and schedule."""
        return RetryPolicy(
            max_retries=max_retries, delay=self._settings.retry_delay, delay_max=self._settings.retry_delay_max,
            schedule=schedule,
        )  # fmt: skip

    def _lives(self, session: Session, run: TaskRun) -> bool:
        """Whether the worker of this attempt reported since a lease can have begun that is over by now."""
        seen_after = clock.now() - timedelta(seconds=self._settings.lease_seconds * ALIVE_SHARE)
        return bool(
            run.worker and run.started_at
            and workers.is_alive(session, run.worker, since=run.started_at, seen_after=seen_after)
        )  # fmt: skip

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
            due_at = now + timedelta(seconds=delay)
            return {"state": State.SCHEDULED, "due_at": due_at, "published_at": now, **told}
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
