"""Finishes tasks from the worker's main process when their own process cannot.

Three things end a task from outside: its process dies, the hard time limit kills it, or somebody revokes it. Celery
then acknowledges the message first and reports the end afterwards. A crash between the two would lose the outcome:
the message is gone, and nobody knows what became of the task. So `PlatformRequest` stores the outcome first, while the
lease still holds. If the outcome cannot be stored now, the message is rejected instead of acknowledged: it stays in
the queue and is delivered again.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded as PoolTimeLimitExceeded
from billiard.exceptions import WorkerLostError
from celery.states import RETRY
from celery.worker import state

from laneway.platform.current import current_platform
from laneway.platform.errors import PlatformError, TimeLimitExceeded, WorkerLost
from laneway.platform.execution.attempts import with_message_options
from laneway.platform.execution.celery_results import TaskFailed, failure_meta, translated_errors
from laneway.platform.execution.outcomes import AttemptResult, Raised
from laneway.platform.execution.stock_consumer import current_consumer
from laneway.platform.logging import logger
from laneway.schemas.task import TaskState
from laneway.transport.channel import ReadMessage
from laneway.transport.codec import HEADER_LEASE
from laneway.worker.hand_on import UnknownHere
from laneway.worker.request import Request

log = logger(__name__)

# Billiard's words: "Worker exited prematurely: signal 9 (SIGKILL) Job: 3."
_SIGNAL: Final = re.compile(r"signal (\d+)(?: \((SIG\w+)\))?")
_EXIT_CODE: Final = re.compile(r"exitcode (-?\d+)")


class PlatformRequest(Request):
    """A message that this worker has received."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Finish the task of a pool process that died.

        For a hard time limit Celery calls this first and then `on_timeout`, which finishes the task.
        """
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, PoolTimeLimitExceeded):
            return None
        is_stopped = self._already_cancelled or self._already_revoked
        is_lost = isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt) and not is_stopped
        if is_lost and self._runs_again(Raised(WorkerLost(str(self.hostname), how=end_of_process(error)))):
            return None
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _is_handed_on(self, error: UnknownHere) -> bool:
        """Hand the message on. On a broker without the engine the consumer keeps it for the delay."""
        consumer = current_consumer()
        if isinstance(self.message, ReadMessage) or consumer is None:
            return super()._is_handed_on(error)
        if consumer.hand_on(self.message, error.unknown, name=str(self.name)):
            return True
        self.message.ack_log_error(log, self._connection_errors)
        return False

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Finish a task whose process is killed at the hard time limit.

        At the soft limit the task gets an exception, and its process finishes it.
        """
        if soft or not self._runs_again(Raised(TimeLimitExceeded(timeout))):
            super().on_timeout(soft, timeout)

    def maybe_expire(self) -> bool:
        """Whether it is too late to start the task. A task that started in time may be retried after its expiry.

        Celery also marks an expired id as revoked in this worker. This method does not: after a retry by hand the same
        id is valid again, and the worker would refuse it.
        """
        until: datetime | None = self.expires
        if until is None or datetime.now(UTC if until.tzinfo else None) <= until:
            return False
        return not self._was_started

    @property
    def _was_started(self) -> bool:
        try:
            return current_platform().tasks.current(self.id).started_at is not None
        except PlatformError:
            return False

    @property
    def _queue(self) -> str:
        spec = getattr(self.task, "spec", None)
        return str((self.delivery_info or {}).get("routing_key") or (spec.queue if spec else ""))

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """Finish a task that was revoked or killed by Celery's own commands, or that was not started in time."""
        self._finish(None, how="expired" if expired else "killed" if terminated else "revoked")
        super()._announce_revoked(reason, terminated, signum, expired)

    def _runs_again(self, outcome: Raised) -> bool:
        """Finish a task that lost its process. False: it failed for good, and Celery stores the failure.

        Otherwise Celery's callers must not see a failure: a retry follows, the message was returned to the queue, or
        another worker has the task.
        """
        result = self._finish(outcome, how="lost")
        if result is not None and result.state is not TaskState.SCHEDULED:
            return False
        state.task_ready(self)
        if result is None:
            self.reject(requeue=True)  # does nothing if that was done before, or if the lease is over
        else:
            self._announce_retry(result)
        return True

    def _announce_retry(self, result: AttemptResult) -> None:
        """Report a retry to Celery's callers.

        The Celery result is stored before the acknowledgement. After it, another worker may run the retry and store
        a newer result, which this one must not overwrite.
        """
        failure = TaskFailed(result.error_type or "", result.error or "")
        try:
            with translated_errors():
                self.task.backend.store_result(self.id, failure_meta(failure), RETRY, request=self._context)
        except PlatformError as problem:
            log.warning("the Celery result does not show the retry", task_id=self.id, error=str(problem))
        self.acknowledge()
        self.send_event("task-retried", exception=repr(failure), traceback="")

    def _finish(self, outcome: Raised | None, *, how: str) -> AttemptResult | None:
        """Store the outcome of the task, or reject the message. `outcome` None: it was stopped, and `how` says how."""
        spec = getattr(self.task, "spec", None)
        spec = with_message_options(spec, self.request_dict) if spec else None
        try:
            return current_platform().attempts.finish_for(
                self.id,
                self._queue,
                outcome,
                spec=spec,
                how=how,
                worker=str(self.hostname),
                lease=self.request_dict.get(HEADER_LEASE),
            )
        except PlatformError as problem:
            log.warning("outcome not stored now, message returned to the queue", task_id=self.id, error=str(problem))
            self.reject(requeue=True)
            return None


def end_of_process(error: BaseException) -> str:
    """How a process of the pool ended, in words; empty if the error does not say."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r})"
    if isinstance(error, KeyboardInterrupt):
        return "was interrupted (SIGINT)"
    if number := _SIGNAL.search(str(error)):
        why = ", for example by the system because memory was short" if number[1] == "9" else ""
        return f"was killed by {number[2] or f'signal {number[1]}'}{why}"
    code = _EXIT_CODE.search(str(error))
    return f"ended with exit code {code[1]}" if code else ""
