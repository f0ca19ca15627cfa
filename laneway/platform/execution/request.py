"""What ends a task from outside, in the worker's main process, and how that becomes its outcome.

Celery acknowledges what was lost, timed out or revoked, and says so to others after that. Here the outcome comes
first, while the lease still holds; what cannot be recorded now is given back in the place of the acknowledgement.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded as PoolTimeLimitExceeded
from billiard.exceptions import WorkerLostError
from celery.states import RETRY
from celery.worker import state

from laneway.platform.errors import PlatformError, TimeLimitExceeded, WorkerLost
from laneway.platform.execution.attempts import as_asked
from laneway.platform.execution.celery_results import TaskFailed, as_celery_has_it, named_errors
from laneway.platform.execution.outcomes import AttemptResult, Raised
from laneway.platform.logging import logger
from laneway.platform.platform import current_platform
from laneway.platform.schemas.task import TaskState
from laneway.transport.codec import HEADER_LEASE
from laneway.worker.request import Request

log = logger(__name__)


class PlatformRequest(Request):
    """A message that a worker has taken in."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """The child that ran it died: it cannot settle its task itself. (Out of time: `on_timeout` is told next.)"""
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, PoolTimeLimitExceeded):
            return None
        ended = self._already_cancelled or self._already_revoked
        lost = isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt) and not ended
        if lost and self._goes_on(self._conclude(Raised(WorkerLost(str(self.hostname))), how="lost")):
            return None
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Its child is killed at the hard time limit; at the soft one it is told, and settles its task itself."""
        if soft or not self._goes_on(self._conclude(Raised(TimeLimitExceeded(timeout)), how="lost")):
            super().on_timeout(soft, timeout)

    def maybe_expire(self) -> bool:
        """Whether it is too late to start it; one that was started in time is not too late for its retry.

        Unlike Celery's, it leaves no mark in this worker: the task may be sent again by hand, under its id.
        """
        until: datetime | None = self.expires
        if until is None or datetime.now(UTC if until.tzinfo else None) <= until:
            return False
        return not self._begun

    @property
    def _begun(self) -> bool:
        try:
            return current_platform().tasks.current(self.id).started_at is not None
        except PlatformError:
            return False

    @property
    def _queue(self) -> str:
        spec = getattr(self.task, "spec", None)
        return str((self.delivery_info or {}).get("routing_key") or (spec.queue if spec else ""))

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """Somebody revoked or killed it with Celery's own means, or it was not started in time."""
        self._conclude(None, how="expired" if expired else "killed" if terminated else "revoked")
        super()._announce_revoked(reason, terminated, signum, expired)

    def _goes_on(self, ruling: AttemptResult | None) -> bool:
        """Whether the task is tried again: then Celery's callers are told so, and not of a failure.

        The result comes first: behind the acknowledgement another worker may have a newer one.
        """
        if ruling is None or ruling.state is not TaskState.SCHEDULED:
            return False
        state.task_ready(self)
        told = TaskFailed(ruling.error_type or "", ruling.error or "")
        try:
            with named_errors():
                self.task.backend.store_result(self.id, as_celery_has_it(told), RETRY, request=self._context)
        except PlatformError as problem:
            log.warning("that it is tried again is not in its result", task_id=self.id, error=str(problem))
        self.acknowledge()
        self.send_event("task-retried", exception=repr(told), traceback="")
        return True

    def _conclude(self, outcome: Raised | None, *, how: str) -> AttemptResult | None:
        """Settle the task for a process that cannot: `outcome` is None when it was stopped (`how`); what was ruled."""
        spec = getattr(self.task, "spec", None)
        spec = as_asked(spec, self.request_dict) if spec else None
        try:
            return current_platform().attempts.conclude_for(
                self.id,
                self._queue,
                outcome,
                spec=spec,
                how=how,
                worker=str(self.hostname),
                lease=self.request_dict.get(HEADER_LEASE),
            )
        except PlatformError as problem:
            log.warning("not settled now, given back", task_id=self.id, error=str(problem))
            self.reject(requeue=True)
            return None
