"""`PlatformTask`: what happens around each run of a task.

    message ─► start attempt ─► run the function ─► outcome ─► result ─► finish attempt ─► Celery result

A watchdog can interrupt the function while it runs. Celery does acknowledgements, results and events as always.
`execution/attempts.py` stores the attempts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NoReturn
from uuid import uuid4

from celery import Task
from celery.exceptions import Ignore, Reject
from pydantic import BaseModel

from laneway.engine import EventKind
from laneway.platform import tracing
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.scopes import Scope
from laneway.platform.current import current_platform, known_platform
from laneway.platform.errors import InvalidPayload, PlatformError, TaskCancelled
from laneway.platform.execution.attempts import DeliveredTask, with_message_options
from laneway.platform.execution.celery_results import TaskFailed, failure_meta
from laneway.platform.execution.chunk import ChunkContext, as_dict, outcome_of, work_on_chunk
from laneway.platform.execution.chunk_run import End, current_part, run_parts
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
from laneway.platform.flow.chunk import Chunk
from laneway.platform.history.adoption import payload_of_call
from laneway.platform.logging import bind, capture, logger, unbind_all
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.payload_store import PayloadLost
from laneway.platform.platform import Platform
from laneway.platform.registry import TaskSpec
from laneway.platform.sealing import opened_payload
from laneway.platform.submission.acceptance import validated
from laneway.schemas.payload import Payload
from laneway.schemas.task import FAILURES, TaskState
from laneway.worker.task_classes import STRATEGY

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
    Strategy = STRATEGY
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
        part = current_part(self.request.id)
        bind(task_id=self.request.id, conversation_id=_short_text(kwargs.get("conversation_id")))
        if part is None:
            attempt = self._start_attempt(args, kwargs)
        else:
            self.request.laneway_started, attempt = part.request.laneway_started, part.attempt
            bind(chunk=part.chunk)
        bind(request_id=attempt.request_id)
        span = spans.attempt(attempt, self.request.headers) if (spans := tracing.active) is not None else None
        end = self._run_attempt(attempt) if part is None else part.end
        if isinstance(end.is_stored, PlatformError):
            if span is not None:
                span.end(None, problem=str(end.is_stored))
            self._put_off(str(end.is_stored), lost_attempt=attempt.number)
        result = end.result if end.is_stored else None
        self._log_end(attempt, end.outcome, result)
        if span is not None:
            span.end(result)
        return self._report_to_celery(end.outcome, result)

    def _run_attempt(self, attempt: Attempt) -> End:
        """Run the function, and store its outcome."""
        with acting_as(self._caller(attempt)):
            outcome = self.work_on(attempt)
        return self.ends([(attempt, outcome)])[0]

    def ends(self, outcomes: Sequence[tuple[Attempt, Outcome]]) -> list[End]:
        """Decide what follows from these outcomes, and store that."""
        attempts, policy = self.platform.attempts, self.platform.attempts.policy
        sealed = [self._sealed(outcome) for _, outcome in outcomes]
        results = [
            policy.decide(attempt, outcome, schedule=self.spec.delays)
            for (attempt, _), outcome in zip(outcomes, sealed, strict=True)
        ]
        ended = [(attempt, result) for (attempt, _), result in zip(outcomes, results, strict=True)]
        return [End(*end) for end in zip(sealed, results, attempts.finish_many(ended), strict=True)]

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
    def soft_limit(self) -> float:
        """The soft time limit in seconds: the task's own, or the platform's."""
        _, own = self.request.timelimit or (None, None)
        return float(own or self.platform.settings.tasks.soft_time_limit)

    def _start_attempt(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Attempt:
        """Start the attempt, or raise the exception that makes Celery drop, postpone or hand on the delivery."""
        delivered = self.delivered(args, kwargs)
        return self.attempt_of(self.platform.attempts.start_many([delivered])[0], delivered)

    def delivered(
        self, args: Sequence[Any], kwargs: dict[str, Any], *, chunk: dict[str, Any] | None = None
    ) -> DeliveredTask:
        """The message of Celery's current request. Raises UnknownHere if another version must run it."""
        self.request.laneway_started = monotonic()
        headers = self.request.headers or {}
        payload = payload_of_call(self.name, args, kwargs)
        readable = self._readable(payload)
        if readable is not None:
            check_version(self.spec, readable, headers)
        return DeliveredTask(
            task_id=self.request.id,
            spec=with_message_options(self.spec, headers),
            queue=str((self.request.delivery_info or {}).get("routing_key") or ""),
            payload=payload,
            headers=headers,
            worker=str(self.request.hostname),
            readable=readable,
            chunk=chunk,
        )

    def attempt_of(self, started: Attempt | Skip | PlatformError, delivered: DeliveredTask) -> Attempt:
        """The attempt, or the exception that makes Celery drop or postpone the delivery."""
        if isinstance(started, PlatformError):
            self._put_off(str(started))
        if isinstance(started, Skip):
            if started.busy:
                self._put_off(started.reason)
            log.info("delivery dropped", task=self.name, reason=started.reason)
            raise Ignore
        started.payload = delivered.payload if delivered.readable is None else delivered.readable
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
        if self.spec.chunk is not None:
            return self.work_on_chunk([attempt], id=attempt.task_id)[0]
        context = Context(attempt, self.platform)
        try:
            with (
                self.platform.cancellation_watchdog.watch(attempt),
                capture(self._log_recorder(attempt), lines=LOG_LINES),
                running(context),
            ):
                payload = validated(self.spec, opened_payload(attempt.payload))
                return Completed(as_dict(self.declaration.call(self.work, context, payload)))
        except TaskCancelled:
            return Stopped("interrupted" if attempt.interrupted else "cooperative")
        except Exception as error:  # noqa: BLE001  whatever a task raises becomes an outcome
            return self._learned(attempt, error) or outcome_of(error, self.soft_limit)
        finally:
            context.report_rest()

    @property
    def cost(self) -> int:
        """How many slots of a worker a run takes."""
        return self.spec.cost

    @property
    def chunk(self) -> Chunk | None:
        """How its messages are gathered; None: each runs alone."""
        return self.spec.chunk

    def chunk_group(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Hashable:
        """The value that messages of one chunk have in common. One that cannot be read here is in no other chunk."""
        if self.spec.chunk is None or self.spec.chunk.by is None:
            return None
        payload = payload_of_call(self.name, args, kwargs)
        if self.spec.chunk.by not in payload:
            return uuid4()
        return json.dumps(payload[self.spec.chunk.by], sort_keys=True, default=str)

    def run_chunk(self, id: str, calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Start the attempts of these messages and run the function for all; then give each call, which finishes it."""
        return run_parts(self, id, calls)

    def work_on_chunk(self, attempts: Sequence[Attempt], *, id: str) -> list[Outcome]:
        """Run the function once for these attempts; return the outcome of each. What it logs, the first one records."""
        unbind_all()
        bind(chunk=id)
        with acting_as(self._caller(attempts[0])), capture(self._log_recorder(attempts[0]), lines=LOG_LINES):
            return self._with_learned(attempts, work_on_chunk(self, attempts, id=id))

    def _with_learned(self, attempts: Sequence[Attempt], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes of a chunk. An error from which a limit learns becomes a wait; that of all closes it once."""
        learned: dict[BaseException, Snoozed | None] = {}
        for attempt, outcome in zip(attempts, outcomes, strict=True):
            if isinstance(outcome, Raised) and outcome.error not in learned:
                learned[outcome.error] = self._learned(attempt, outcome.error)
        return [(learned[each.error] if isinstance(each, Raised) else None) or each for each in outcomes]

    def call_chunk(self, context: ChunkContext, payloads: list[Payload]) -> object:
        """Call the function of a chunk task."""
        return self.work(context, payloads) if self.declaration.takes_context else self.work(payloads)

    def _learned(self, attempt: Attempt, error: BaseException) -> Snoozed | None:
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


def _error_text(outcome: Outcome) -> str | None:
    if not isinstance(outcome, Raised):
        return None
    kind = "" if isinstance(outcome.error, InvalidPayload) else f"{type(outcome.error).__name__}: "
    return f"{kind}{outcome.error}"[:500]


def _short_text(value: Any) -> str | None:
    return value[:155] if isinstance(value, str) else None
