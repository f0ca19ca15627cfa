"""Attempts on a broker without the delivery engine: the rows of the database say which worker runs which task.

The history gets the same events as on the engine, but directly and not through a journal. If the broker delivers a
message again while its worker lives, the delivery is postponed. If the worker has died, this worker takes the task
over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from laneway.engine import Event, EventKind
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs, workers
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError, WorkerLost
from laneway.platform.execution.attempts import DeliveredTask, ack_action
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.execution.outcomes import Attempt, AttemptResult, AttemptSignal, OutcomePolicy, Raised, Skip
from laneway.platform.execution.output import sealed_output
from laneway.platform.flow.chunk import chunk_note
from laneway.platform.history.adoption import run_from_call
from laneway.platform.history.journal_projection import JournalProjection
from laneway.platform.logging import logger
from laneway.platform.queues import Priority
from laneway.platform.registry import TaskSpec
from laneway.platform.settings import TaskSettings
from laneway.platform.task_manager import TaskManager
from laneway.schemas.task import FINISHED, TaskState

log = logger(__name__)
T = TypeVar("T")

LOST_ATTEMPT_HEADER = "laneway-lost-attempt"
"""Header with the number of an attempt that has ended without a recorded outcome, although its worker lives."""
ALIVE_SHARE = 0.6
"""A worker counts as dead when it has not reported for this share of a lease."""


class LedgerAttempts:
    """Attempts in the rows of the database."""

    def __init__(self, database: Database, tasks: TaskManager, settings: TaskSettings) -> None:
        self._database, self._tasks, self._settings, self.policy = database, tasks, settings, OutcomePolicy(settings)

    def start(self, delivered: DeliveredTask) -> Attempt | Skip:
        """Start an attempt, unless the task has ended or a living worker runs it."""
        with self._database.transaction() as session:
            run = task_runs.find(session, delivered.task_id, lock=True) or self._adopt(session, delivered)
            skip = self._reason_to_skip(session, run, delivered)
            if skip is not None:
                return skip
            number = run.attempts + 1
            if number > run.max_retries + 1:
                lost = Raised(WorkerLost(run.worker or "?", last_of=run.attempts))
                self._end(session, run, _attempt(run, run.attempts), lost)
                return Skip("it has had all its attempts, and the last one lost its worker")
            note = chunk_note(delivered.chunk)
            self._record(session, run, EventKind.START, attempt=number, worker=delivered.worker, outcome=note)
            return _attempt(run, number)

    def finish(self, attempt: Attempt, result: AttemptResult) -> bool:
        """Record the result, and send the message of a retry."""
        with self._database.transaction() as session:
            run = self._owned_run(session, attempt)
            if run is None:
                log.warning("outcome refused: the attempt was taken over", task_id=attempt.task_id)
                return False
            self._record_end(session, run, attempt.number, result)
        if result.state is TaskState.SCHEDULED:
            self._tasks.send_or_later(run, delay=result.delay)
        return True

    def start_many(self, delivered: Sequence[DeliveredTask]) -> list[Attempt | Skip | PlatformError]:
        """Start each in a transaction of its own."""
        return [_or_error(lambda each=each: self.start(each)) for each in delivered]

    def finish_many(self, ends: Sequence[tuple[Attempt, AttemptResult]]) -> list[bool | PlatformError]:
        """Record each in a transaction of its own."""
        return [_or_error(lambda end=end: self.finish(*end)) for end in ends]

    def report(self, attempt: Attempt, kind: EventKind, data: dict[str, Any]) -> AttemptSignal:
        """Record the data as an event."""
        if kind is EventKind.OUTPUT:
            data = sealed_output(self._settings.sealer, attempt, data)
        with self._database.transaction() as session:
            run = self._owned_run(session, attempt)
            if run is None:
                return AttemptSignal.LOST
            self._record(session, run, kind, attempt=attempt.number, outcome=json.dumps(data, default=str))
            return _signal(run, attempt)

    def check_cancelled(self, attempts: Sequence[Attempt]) -> list[AttemptSignal]:
        """Read the rows of all attempts in one query."""
        with self._database.reading() as session:
            runs = {run.id: run for run in task_runs.by_ids(session, [attempt.task_id for attempt in attempts])}
        return [_signal(runs.get(attempt.task_id), attempt) for attempt in attempts]

    def finish_for(
        self,
        task_id: str,
        queue: str,
        outcome: Raised | None,
        *,
        spec: TaskSpec | None,
        how: str,
        worker: str,
        lease: str | None = None,
    ) -> AttemptResult | None:
        """Finish the attempt that the row names."""
        del queue, spec, lease
        with self._database.reading() as session:
            run = task_runs.find(session, task_id)
        if run is None or run.state in FINISHED or (run.state == TaskState.PROCESSING and run.worker != worker):
            return None
        attempt = _attempt(run, run.attempts)
        attempt.cancel_requested = run.cancel_requested
        result = AttemptResult(TaskState.EXPIRED if how == "expired" else TaskState.CANCELLED, how=how)
        if outcome is not None:
            result = self.policy.decide(attempt, outcome)
        if run.state == TaskState.PROCESSING:
            return result if self.finish(attempt, result) else None
        self._finish_waiting(run, result)
        return result

    def bury(self, task_id: str, name: str, payload: dict[str, Any], *, queue: str, reason: str, error: str) -> None:
        """Make a dead letter of a task that no worker takes, unless it has ended."""
        with self._database.transaction() as session:
            run = task_runs.find(session, task_id, lock=True)
            if run is None:
                priority = int(Priority.NORMAL)
                run = run_from_call(
                    task_id,
                    name,
                    payload,
                    queue=queue,
                    at=clock.now(),
                    priority=priority,
                    sealer=self._settings.sealer,
                )
                session.add(run)
                session.flush()
            self._record(session, run, EventKind.BURY, reason=reason, detail=error)

    def _finish_waiting(self, run: TaskRun, result: AttemptResult) -> None:
        """Store the result of a task whose process died before the attempt started."""
        if result.state is TaskState.SCHEDULED:
            self._tasks.send_or_later(run)
            return
        with self._database.transaction() as session:
            if task_runs.end_waiting(session, run.id, state=result.state, now=clock.now()):
                ended = task_runs.find(session, run.id)
                submit_on_failure(session, [ended] if ended else [], self._settings)

    def _reason_to_skip(self, session: Session, run: TaskRun, delivered: DeliveredTask) -> Skip | None:
        """Return why the delivery must not run, or None. An open attempt of a dead worker is recorded as lost."""
        if run.state in FINISHED:
            return Skip(f"it is {run.state}")
        if run.state != TaskState.PROCESSING:
            return None
        if run.attempts != delivered.headers.get(LOST_ATTEMPT_HEADER) and self._worker_lives(session, run):
            return Skip(f"{run.worker} runs it", busy=True)
        self._record(session, run, EventKind.LOST, attempt=run.attempts, reason="silent")
        if not run.cancel_requested:
            return None
        self._record(session, run, EventKind.CANCEL)
        return Skip("it was cancelled")

    def _end(self, session: Session, run: TaskRun, attempt: Attempt, outcome: Raised) -> None:
        self._record_end(session, run, run.attempts, self.policy.decide(attempt, outcome))

    def _record_end(self, session: Session, run: TaskRun, number: int, result: AttemptResult) -> None:
        self._record(
            session,
            run,
            EventKind.FINISH,
            attempt=number,
            ack_action=ack_action(result),
            outcome=result.to_json(),
            delay_ms=round(result.delay * 1000),
        )

    def _record(self, session: Session, run: TaskRun, kind: EventKind, **fields: Any) -> None:
        offset = f"{round(clock.now().timestamp() * 1000)}-0"
        event = Event(cursor=offset, kind=kind, task_id=run.id, message_id=run.id, **fields)
        submit_on_failure(session, JournalProjection(session, run.queue).apply([event]), self._settings)

    def _adopt(self, session: Session, delivered: DeliveredTask) -> TaskRun:
        """Add the row of a task that was sent without the task manager."""
        run = run_from_call(
            delivered.task_id,
            delivered.spec.name,
            delivered.payload,
            queue=delivered.queue,
            at=clock.now(),
            priority=int(delivered.spec.priority),
            sealer=self._settings.sealer,
        )
        if delivered.spec.max_retries is None:
            run.max_retries = self._settings.max_retries
        session.add(run)
        session.flush()
        return run

    def _owned_run(self, session: Session, attempt: Attempt) -> TaskRun | None:
        """Return the row, locked, if the attempt still owns the task."""
        run = task_runs.find(session, attempt.task_id, lock=True)
        return run if _signal(run, attempt) is not AttemptSignal.LOST else None

    def _worker_lives(self, session: Session, run: TaskRun) -> bool:
        seen_after = clock.now() - timedelta(seconds=self._settings.lease_seconds * ALIVE_SHARE)
        return bool(
            run.worker
            and run.started_at
            and workers.is_alive(session, run.worker, since=run.started_at, seen_after=seen_after)
        )


def _or_error(call: Callable[[], T]) -> T | PlatformError:
    try:
        return call()
    except PlatformError as error:
        return error


def _attempt(run: TaskRun, number: int) -> Attempt:
    return Attempt(
        task_id=run.id,
        name=run.name,
        queue=run.queue,
        number=number,
        max_retries=run.max_retries,
        payload=run.payload,
        worker=run.worker or "?",
        started_at=run.started_at or clock.now(),
        request_id=run.request_id,
    )


def _signal(run: TaskRun | None, attempt: Attempt) -> AttemptSignal:
    """Return LOST unless the row names this attempt.

    The start time is compared, too, because attempt numbers start at 1 again after a retry by hand.
    """
    if run is None or run.state != TaskState.PROCESSING:
        return AttemptSignal.LOST
    if (run.attempts, run.worker, run.started_at) != (attempt.number, attempt.worker, attempt.started_at):
        return AttemptSignal.LOST
    return AttemptSignal.CANCEL if run.cancel_requested else AttemptSignal.CONTINUE
