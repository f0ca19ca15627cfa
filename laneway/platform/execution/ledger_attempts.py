"""Attempts on a broker without the delivery engine: the rows themselves say who runs what.

The same events are recorded as on the engine, at once instead of through a journal. What a broker redelivers while its
worker lives is put off; what a dead worker left is taken over, when the broker gives it out again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from laneway.engine import AckAction, Event, Kind
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs, workers
from laneway.platform.db.session import Database
from laneway.platform.errors import WorkerLost
from laneway.platform.execution.attempts import DeliveredTask
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.execution.outcomes import Attempt, AttemptResult, OutcomePolicy, Raised, Skip
from laneway.platform.history.adoption import adopted_row
from laneway.platform.history.journal_projection import JournalProjection
from laneway.platform.logging import logger
from laneway.platform.registry import TaskSpec
from laneway.platform.schemas.task import FINISHED, TaskState
from laneway.platform.settings import TaskSettings
from laneway.platform.task_manager import TaskManager

log = logger(__name__)

LOST_ATTEMPT_HEADER = "laneway-lost-attempt"
"""Names an attempt that is over for certain, though its worker lives: its outcome could not be recorded."""
ALIVE_SHARE = 0.6
"""Of a lease: a worker that has been silent for so long is taken for dead."""


class LedgerAttempts:
    """In the ledger."""

    def __init__(self, database: Database, tasks: TaskManager, settings: TaskSettings) -> None:
        self._database, self._tasks, self._settings, self.rule = database, tasks, settings, OutcomePolicy(settings)

    def begin(self, delivered: DeliveredTask) -> Attempt | Skip:
        """Begin, unless the task is over or a living worker runs it."""
        with self._database.transaction() as session:
            run = task_runs.find(session, delivered.task_id, lock=True) or self._adopt(session, delivered)
            if run.state in FINISHED:
                return Skip(f"it is {run.state}")
            if run.state == TaskState.PROCESSING:
                if run.attempts != delivered.headers.get(LOST_ATTEMPT_HEADER) and self._lives(session, run):
                    return Skip(f"{run.worker} runs it", busy=True)
                self._record(session, run, Kind.LOST, attempt=run.attempts, reason="silent")
                if run.cancel_requested:
                    self._record(session, run, Kind.CANCEL)
                    return Skip("it was cancelled")
            number = run.attempts + 1
            if number > run.max_retries + 1:
                ruling = self.rule.decide(_attempt(run, number), Raised(WorkerLost("each of its workers")))
                self._record(
                    session, run, Kind.END, attempt=run.attempts, ack_action=AckAction.DONE, outcome=ruling.to_json()
                )
                return Skip("it lost its worker too often")
            self._record(session, run, Kind.BEGIN, attempt=number, worker=delivered.worker)
            return _attempt(run, number)

    def conclude(self, attempt: Attempt, ruling: AttemptResult) -> bool:
        """Record the ruling, and send a retry."""
        verdict = AckAction.DONE
        if ruling.state is TaskState.SCHEDULED:
            verdict = AckAction.RETRY if ruling.counted else AckAction.SNOOZE
        with self._database.transaction() as session:
            run = self._owned(session, attempt)
            if run is None:
                log.warning("outcome refused: the attempt was taken over", task_id=attempt.task_id)
                return False
            self._record(
                session,
                run,
                Kind.END,
                attempt=attempt.number,
                ack_action=verdict,
                outcome=ruling.to_json(),
                delay_ms=round(ruling.delay * 1000),
            )
        if ruling.state is TaskState.SCHEDULED:
            self._tasks.send_or_later(run, delay=ruling.delay)
        return True

    def report(self, attempt: Attempt, kind: Kind, said: dict[str, Any]) -> bool | None:
        """Record it."""
        with self._database.transaction() as session:
            run = self._owned(session, attempt)
            if run is None:
                return None
            self._record(session, run, kind, attempt=attempt.number, outcome=json.dumps(said, default=str))
            return run.cancel_requested

    def asked_to_stop(self, attempts: Sequence[Attempt]) -> list[bool | None]:
        """One query for all."""
        with self._database.reading() as session:
            runs = {run.id: run for run in task_runs.recent(session, [attempt.task_id for attempt in attempts])}
        return [_stop(runs.get(attempt.task_id), attempt) for attempt in attempts]

    def conclude_for(
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
        """For the attempt that the row names."""
        del queue, spec, lease
        with self._database.reading() as session:
            run = task_runs.find(session, task_id)
        if run is None or run.state in FINISHED or (run.state == TaskState.PROCESSING and run.worker != worker):
            return None
        attempt = _attempt(run, run.attempts)
        attempt.cancel_requested = run.cancel_requested
        ruling = AttemptResult(TaskState.EXPIRED if how == "expired" else TaskState.CANCELLED, how=how)
        if outcome is not None:
            ruling = self.rule.decide(attempt, outcome)
        if run.state == TaskState.PROCESSING:
            return ruling if self.conclude(attempt, ruling) else None
        if ruling.state is TaskState.SCHEDULED:  # the process died before it began
            self._tasks.send_or_later(run)
            return ruling
        with self._database.transaction() as session:
            if task_runs.end_waiting(session, task_id, state=ruling.state, now=clock.now()):
                found = task_runs.find(session, task_id)
                submit_on_failure(session, [found] if found else [], self._settings)
        return ruling

    def _record(self, session: Session, run: TaskRun, kind: Kind, **more: Any) -> None:
        place = f"{round(clock.now().timestamp() * 1000)}-0"
        event = Event(cursor=place, kind=kind, task_id=run.id, message_id=run.id, **more)
        submit_on_failure(session, JournalProjection(session, run.queue).apply([event]), self._settings)

    def _adopt(self, session: Session, delivered: DeliveredTask) -> TaskRun:
        run = adopted_row(
            delivered.task_id,
            delivered.spec.name,
            delivered.payload,
            queue=delivered.queue,
            at=clock.now(),
            priority=int(delivered.spec.priority),
        )
        if delivered.spec.max_retries is None:
            run.max_retries = self._settings.max_retries
        session.add(run)
        session.flush()
        return run

    def _owned(self, session: Session, attempt: Attempt) -> TaskRun | None:
        run = task_runs.find(session, attempt.task_id, lock=True)
        return run if run is not None and _stop(run, attempt) is not None else None

    def _lives(self, session: Session, run: TaskRun) -> bool:
        seen_after = clock.now() - timedelta(seconds=self._settings.lease_seconds * ALIVE_SHARE)
        return bool(
            run.worker
            and run.started_at
            and workers.is_alive(session, run.worker, since=run.started_at, seen_after=seen_after)
        )


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


def _stop(run: TaskRun | None, attempt: Attempt) -> bool | None:
    """By its start, too: after a retry by hand the numbers begin anew."""
    if run is None or run.state != TaskState.PROCESSING:
        return None
    mine = (run.attempts, run.worker, run.started_at) == (attempt.number, attempt.worker, attempt.started_at)
    return run.cancel_requested if mine else None
