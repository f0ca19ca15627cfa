"""`PlatformTask`: what happens around each run of a task.

    message ─► start attempt ─► run the function ─► outcome ─► result ─► finish attempt ─► Celery result

A watchdog can interrupt the function while it runs. Celery does acknowledgements, results and events as always.
`execution/attempts.py` stores the attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, NoReturn, cast

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Ignore, Reject
from pydantic import BaseModel

from laneway.engine import EventKind
from laneway.platform import tracing
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.scopes import Scope
from laneway.platform.current import current_platform, known_platform
from laneway.platform.errors import InvalidPayload, PlatformError, TaskCancelled, TaskSnoozed, TimeLimitExceeded
from laneway.platform.execution.attempts import DeliveredTask, with_message_options
from laneway.platform.execution.celery_results import TaskFailed, failure_meta
from laneway.platform.execution.context import Context, running, running_task
from laneway.platform.execution.declaration import Declaration
from laneway.platform.execution.learned_limits import learn
from laneway.platform.execution.ledger_attempts import LOST_ATTEMPT_HEADER
from laneway.platform.execution.local_run import run_eagerly
from laneway.platform.execution.outcomes import (
    Attempt,
    AttemptResult,
    Completed,
    Outcome,
    Raised,
    Skip,
    Snoozed,
    Stopped,
    storable,
)
from laneway.platform.execution.versions import check_version, opened_here
from laneway.platform.history.adoption import payload_of_call
from laneway.platform.logging import bind, capture, logger, unbind_all
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.payload_store import PayloadLost
from laneway.platform.platform import Platform
from laneway.platform.registry import TaskSpec
from laneway.platform.sealing import opened_payload
from laneway.platform.submission.acceptance import validated
from laneway.schemas.task import FAILURES, TaskState

log = logger(__name__)

REDELIVERY_SECONDS = 5.0
"""Delay of a message that cannot be handled now: the broker or database is unreachable, or another worker runs it."""
LOG_LINES = 200
"""Log lines of one attempt that become events of the task."""


class PlatformTask(Task):
    """A function that is declared with `@task`, as Celery runs it.

    Called directly, it calls its function, as a part of the running task if there is one: nothing is submitted.
    """

    abstract = True
    Request = "laneway.platform.execution.request:PlatformRequest"
    typing = False
    max_retries = None  # no limit by Celery's own count, which includes deliveries that were postponed
    throws = (TaskFailed,)  # otherwise Celery logs a traceback that only shows this module
    spec: TaskSpec
    declaration: Declaration
    work: Callable[..., BaseModel | Mapping[str, Any] | None]

    @property
    def platform(self) -> Platform:
        """The platform of this process."""
        return current_platform()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run an attempt if Celery calls this for a message, else call the function."""
        request = self.request
        if not request.called_directly and getattr(request, "laneway_started", None) is None:
            return self.run(*args, **kwargs)
        if not self.declaration.takes_context:
            return self.work(*args, **kwargs)
        context = running_task()
        if context is None:
            raise TypeError(
                f"{self.name} takes the running task, and none runs here: submit it, or use laneway.testing."
            )
        return self.work(context, *args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Run one attempt. Celery calls this for each delivered message."""
        if self.request.is_eager:
            return self._run_eagerly(payload_of_call(self.name, args, kwargs))
        unbind_all()
        bind(task_id=self.request.id, conversation_id=_short_text(kwargs.get("conversation_id")))
        attempt = self._start_attempt(args, kwargs)
        bind(request_id=attempt.request_id)
        span = spans.attempt(attempt, self.request.headers) if (spans := tracing.active) is not None else None
        with acting_as(self._caller(attempt)):
            outcome = self._sealed(self.work_on(attempt))
        result = self.platform.attempts.policy.decide(attempt, outcome, schedule=self.spec.delays)
        try:
            is_stored = self.platform.attempts.finish(attempt, result)
        except PlatformError as error:
            if span is not None:
                span.end(None, problem=str(error))
            self._put_off(str(error), lost_attempt=attempt.number)
        self._log_end(attempt, outcome, result if is_stored else None)
        if span is not None:
            span.end(result if is_stored else None)
        return self._report_to_celery(outcome, result if is_stored else None)

    def _run_eagerly(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Run all attempts now, without servers: for `apply()` and `task_always_eager`. Raises TaskFailed."""
        done = run_eagerly(self, payload, id=self.request.id, behind=known_platform())
        if done.state is TaskState.COMPLETED:
            return done.result
        last = done.attempts[-1].result
        raise TaskFailed(last.error_type or "Cancelled", last.error or "stopped on request")

    def _caller(self, attempt: Attempt) -> Caller:
        """Who does what the function does on the platform."""
        scopes = frozenset({Scope.ADMIN})
        return Caller(kind="task", name=f"{self.name} {self.request.id}", scopes=scopes, request_id=attempt.request_id)

    @property
    def _time_limit(self) -> float:
        """The soft time limit in seconds: the task's own, or the platform's."""
        _, own = self.request.timelimit or (None, None)
        return float(own or self.platform.settings.tasks.soft_time_limit)

    def _start_attempt(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Attempt:
        """Start the attempt, or raise the exception that makes Celery drop, postpone or hand on the delivery."""
        self.request.laneway_started = monotonic()
        headers = self.request.headers or {}
        payload = payload_of_call(self.name, args, kwargs)
        readable = self._readable(payload)
        if readable is not None:
            check_version(self.spec, readable, headers)
        delivered = DeliveredTask(
            task_id=self.request.id,
            spec=with_message_options(self.spec, headers),
            queue=str((self.request.delivery_info or {}).get("routing_key") or ""),
            payload=payload,
            headers=headers,
            worker=str(self.request.hostname),
        )
        try:
            started = self.platform.attempts.start(delivered)
        except PlatformError as error:
            self._put_off(str(error))
        if isinstance(started, Skip):
            if started.busy:
                self._put_off(started.reason)
            log.info("delivery dropped", task=self.name, reason=started.reason)
            raise Ignore
        started.payload = payload if readable is None else readable
        return started

    def _readable(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """The payload as the function gets it; None if the storage has not got it: `work_on` then says so."""
        try:
            return opened_here(self.spec, payload)
        except (PayloadLost, StorageUnavailable):
            return None

    def _put_off(self, reason: str, *, lost_attempt: int = 0) -> NoReturn:
        """Have the message delivered again later. This is no attempt, and no number of retries limits it.

        On the delivery engine the message is rejected and keeps its position in the queue. Celery's retry would send a
        second message, and the outcome of the first one would never be recorded.
        """
        log.warning("delivered again later", task=self.name, seconds=REDELIVERY_SECONDS, reason=reason)
        if self.platform.broker.engine is not None:
            raise Reject(reason, requeue=True)
        headers = self.request.headers or {}
        headers = {**headers, LOST_ATTEMPT_HEADER: lost_attempt or headers.get(LOST_ATTEMPT_HEADER, 0)}
        try:
            raise self.retry(countdown=REDELIVERY_SECONDS, headers=headers)
        except Reject as error:  # the broker is unreachable, too; Celery's own Reject does not requeue the message
            raise Reject(error.reason, requeue=True) from error

    def work_on(self, attempt: Attempt) -> Outcome:
        """Run the function for an attempt, and turn whatever it returns or raises into an outcome."""
        context = Context(attempt, self.platform)
        try:
            with (
                self.platform.cancellation_watchdog.watch(attempt),
                capture(self._log_recorder(attempt), lines=LOG_LINES),
                running(context),
            ):
                payload = validated(self.spec, opened_payload(attempt.payload))
                return Completed(_as_dict(self.declaration.call(self.work, context, payload)))
        except TaskCancelled:
            return Stopped("interrupted" if attempt.interrupted else "cooperative")
        except TaskSnoozed as snooze:
            return Snoozed(snooze.delay, snooze.reason)
        except SoftTimeLimitExceeded:
            return Raised(TimeLimitExceeded(self._time_limit))
        except Exception as error:  # noqa: BLE001  whatever a task raises becomes an outcome
            return self._learned(attempt, error) or Raised(error)
        finally:
            context.report_rest()

    def _learned(self, attempt: Attempt, error: Exception) -> Snoozed | None:
        """What follows if a service has asked to wait, and a limit of the task learns from that."""
        if not any(limit.learn for limit in self.spec.flow.limits) or isinstance(error, InvalidPayload):
            return None
        return learn(self.platform, self.spec, validated(self.spec, opened_payload(attempt.payload)), error)

    def _sealed(self, outcome: Outcome) -> Outcome:
        """The outcome with an encrypted result, if the task is encrypted: as it is stored, passed on and logged."""
        sealer = self.platform.settings.tasks.sealer
        if not isinstance(outcome, Completed) or outcome.result is None or not sealer.seals(self.spec):
            return outcome
        outcome = storable(outcome)
        return Completed(sealer.result(self.spec, outcome.result)) if isinstance(outcome, Completed) else outcome

    def _log_recorder(self, attempt: Attempt) -> Callable[[dict[str, Any]], None]:
        """A function that records the log lines of the running task as its events."""

        def record(line: dict[str, Any]) -> None:
            with suppress(PlatformError):  # the line is in the worker's log in any case
                self.platform.attempts.report(attempt, EventKind.LOG, line)

        return record

    def _log_end(self, attempt: Attempt, outcome: Outcome, result: AttemptResult | None) -> None:
        write = log.warning if result and result.state in FAILURES else log.info
        write(
            "task ended",
            task=self.name,
            state=result.state if result else "lost its lease",
            attempt=attempt.number,
            seconds=round(monotonic() - self.request.laneway_started, 3),
            error=_error_text(outcome),
        )

    def _report_to_celery(self, outcome: Outcome, result: AttemptResult | None) -> dict[str, Any] | None:
        """Return or raise what Celery stores as the task's result. `result` None: the attempt had lost its lease."""
        if result is None:
            raise Ignore
        if isinstance(outcome, Completed) and result.state is TaskState.COMPLETED:
            return outcome.result
        failure = TaskFailed(result.error_type or "Cancelled", result.error or "stopped on request")
        if result.state in FAILURES:
            raise failure from None
        if result.state is TaskState.SCHEDULED:
            self.update_state(state="RETRY", meta=failure_meta(failure))
            self.send_event("task-retried", exception=repr(failure), traceback="")
        if result.state is TaskState.CANCELLED:
            self.update_state(state="REVOKED", meta=failure_meta(failure))
            self.send_event("task-revoked", terminated=True, signum=None, expired=False)
        raise Ignore


def _as_dict(result: object) -> dict[str, Any] | None:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    if result is None or isinstance(result, Mapping):
        return None if result is None else dict(cast("Mapping[str, Any]", result))
    raise TypeError(f"the task returned {type(result).__name__}; return a dict, a pydantic model or None")


def _error_text(outcome: Outcome) -> str | None:
    if not isinstance(outcome, Raised):
        return None
    kind = "" if isinstance(outcome.error, InvalidPayload) else f"{type(outcome.error).__name__}: "
    return f"{kind}{outcome.error}"[:500]


def _short_text(value: Any) -> str | None:
    return value[:155] if isinstance(value, str) else None
