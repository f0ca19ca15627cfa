"""Attempts on the delivery engine, which starts and finishes an attempt together with its message, atomically.

1. `start`: the engine numbers the attempt, if the lease still holds and the task was not cancelled.
2. The task runs. Its outcome is a value; `OutcomePolicy` decides what follows from it.
3. `finish`: one script stores the result with the message and in the journal. A later result does not replace it.
4. The acknowledgement, which Celery sends afterwards, applies the result: it deletes the message or schedules the
   retry. If the worker dies before the acknowledgement, the engine applies the result when the lease ends.

After a crash before step 3 the message is delivered again, and the attempt is recorded as lost. None of this needs the
database: the recorder (`history/journal_recorder.py`) brings it up to date afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from secrets import token_bytes
from time import monotonic, sleep
from typing import Any, Protocol, TypeAlias, TypeVar

from laneway.engine import AckAction, AttemptEnd, AttemptStart, Engine, EventKind, Lease, LeaseStatus, MessageInfo
from laneway.platform import clock
from laneway.platform.broker_errors import translated_errors
from laneway.platform.errors import BrokerUnavailable, PlatformError, WorkerLost
from laneway.platform.execution.outcomes import Attempt, AttemptResult, AttemptSignal, OutcomePolicy, Raised, Skip
from laneway.platform.execution.output import sealed_output
from laneway.platform.flow.chunk import chunk_note
from laneway.platform.logging import logger
from laneway.platform.registry import TaskSpec
from laneway.platform.settings import TaskSettings
from laneway.platform.task_messages import REQUEST_HEADER, RETRIES_HEADER
from laneway.schemas.task import TaskState
from laneway.transport.codec import HEADER_LEASE

log = logger(__name__)
T = TypeVar("T")

LEASE_HELD = (LeaseStatus.DONE, LeaseStatus.CANCELLED)
RECONNECT_SECONDS = 0.25
"""Seconds between two attempts to reach an unreachable broker."""
REQUEST_ID_LIMIT = 64


@dataclass(frozen=True, slots=True)
class DeliveredTask:
    """A message as a worker received it."""

    task_id: str
    spec: TaskSpec
    queue: str
    payload: dict[str, Any]
    headers: dict[str, Any]
    worker: str
    readable: dict[str, Any] | None = None
    """The payload as the function gets it; None: it could not be opened, or need not be."""
    chunk: dict[str, Any] | None = None
    """Id and size of the chunk that it runs in, for its history."""


class Attempts(Protocol):
    """Starts and finishes attempts. Every method raises BrokerUnavailable or DatabaseUnavailable."""

    policy: OutcomePolicy

    def start(self, delivered: DeliveredTask) -> Attempt | Skip:
        """Start an attempt, or return why this delivery must not run."""
        ...

    def start_many(self, delivered: Sequence[DeliveredTask]) -> list[Attempt | Skip | PlatformError]:
        """As `start`, for messages of one chunk: each by itself, if possible in few round trips."""
        ...

    def finish(self, attempt: Attempt, result: AttemptResult) -> bool:
        """Store the result. False: the attempt does not own the task any more, and nothing was changed."""
        ...

    def finish_many(self, ends: Sequence[tuple[Attempt, AttemptResult]]) -> list[bool | PlatformError]:
        """As `finish`, for attempts of one chunk."""
        ...

    def report(self, attempt: Attempt, kind: EventKind, data: dict[str, Any]) -> AttemptSignal:
        """Record progress or a log line of a running attempt, and return what the attempt has to do."""
        ...

    def check_cancelled(self, attempts: Sequence[Attempt]) -> list[AttemptSignal]:
        """What each of these attempts has to do, in their order."""
        ...

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
        """Store the outcome of a task whose process cannot do so itself, and return the result.

        `outcome` None: the task was stopped, and `how` says how. Returns None when neither `worker` nor `lease` owns
        the task any more; then nothing was changed.
        """
        ...


class EngineAttempts:
    """Attempts on the delivery engine."""

    def __init__(self, engine: Engine, settings: TaskSettings) -> None:
        self._engine, self._settings, self.policy = engine, settings, OutcomePolicy(settings)

    def start(self, delivered: DeliveredTask) -> Attempt | Skip:
        """Start an attempt. A task that lost its worker too often becomes a dead letter instead."""
        return self._start([delivered])[0]

    def start_many(self, delivered: Sequence[DeliveredTask]) -> list[Attempt | Skip | PlatformError]:
        """Start the attempts of one worker and one chunk, together."""
        try:
            return list(self._start(delivered))
        except PlatformError as error:
            return [error] * len(delivered)

    def _start(self, delivered: Sequence[DeliveredTask]) -> list[Attempt | Skip]:
        leases = [_lease_of(each) for each in delivered]
        starts = [  # with ids that are the same for every repetition: a lost reply starts no second attempt
            AttemptStart(lease, token_bytes(8), self._max_retries(each.spec) + 1)
            for each, lease in zip(delivered, leases, strict=True)
            if lease is not None
        ]
        replies = iter(self._started(starts, delivered))
        return [
            Skip("it was not delivered by the engine") if lease is None else self._attempt_or_skip(each, *next(replies))
            for each, lease in zip(delivered, leases, strict=True)
        ]

    def _started(self, starts: Sequence[AttemptStart], delivered: Sequence[DeliveredTask]) -> list[_Started]:
        if not starts:
            return []
        worker, note = delivered[0].worker, chunk_note(delivered[0].chunk)
        replies = self._retry_while_leased(lambda: self._engine.start_attempts(starts, worker=worker, note=note))
        return list(zip(starts, replies, strict=True))

    def _attempt_or_skip(
        self, delivered: DeliveredTask, start: AttemptStart, reply: tuple[LeaseStatus, int, bytes]
    ) -> Attempt | Skip:
        code, number, previous = reply
        if code is LeaseStatus.CANCELLED:
            return Skip("it was cancelled")
        attempt = self._new_attempt(delivered, start.lease, number)
        if code is LeaseStatus.EXHAUSTED:
            self.finish(attempt, self.policy.decide(attempt, Raised(WorkerLost("", last_of=number))))
            return Skip("it has had all its attempts, and the last one lost its worker")
        if code not in LEASE_HELD:
            return Skip("its lease was over")
        attempt.call, attempt.previous_call = start.call, previous
        return attempt

    def finish(self, attempt: Attempt, result: AttemptResult) -> bool:
        """Store the result with the message; the acknowledgement applies it."""
        return self._finish([(attempt, result)])[0]

    def finish_many(self, ends: Sequence[tuple[Attempt, AttemptResult]]) -> list[bool | PlatformError]:
        """Store the results of one chunk, together."""
        try:
            return list(self._finish(ends))
        except PlatformError as error:
            return [error] * len(ends)

    def _finish(self, ends: Sequence[tuple[Attempt, AttemptResult]]) -> list[bool]:
        held = [
            AttemptEnd(attempt.lease, ack_action(result), result.to_json(), round(result.delay * 1000))
            for attempt, result in ends
            if attempt.lease is not None
        ]
        codes = iter(self._retry_while_leased(lambda: self._engine.finish_attempts(held)) if held else ())
        return [attempt.lease is not None and self._is_stored(attempt, next(codes)) for attempt, _ in ends]

    def _is_stored(self, attempt: Attempt, code: LeaseStatus) -> bool:
        if code not in LEASE_HELD:
            log.warning("outcome refused: the attempt lost its lease", task_id=attempt.task_id, attempt=attempt.number)
        return code in LEASE_HELD

    def report(self, attempt: Attempt, kind: EventKind, data: dict[str, Any]) -> AttemptSignal:
        """Write the data into the journal."""
        lease = attempt.lease
        if lease is None:
            return AttemptSignal.LOST
        if kind is EventKind.OUTPUT:
            data = sealed_output(self._settings.sealer, attempt, data)
        with translated_errors():
            return _signal(self._engine.report(lease, kind, json.dumps(data, default=str)))

    def check_cancelled(self, attempts: Sequence[Attempt]) -> list[AttemptSignal]:
        """Ask the engine about all leases at once."""
        leases = [attempt.lease for attempt in attempts if attempt.lease]
        with translated_errors():
            codes = iter(self._engine.check_leases(leases))
        return [_signal(next(codes)) if attempt.lease else AttemptSignal.LOST for attempt in attempts]

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
        """Finish the attempt under the message's current lease. A result that it already has is not replaced."""
        del worker
        with translated_errors():
            found = self._engine.find_many(queue, [task_id])[0]
        if found is None or found.lease is None or lease not in (None, str(found.lease)):
            return None
        attempt = _attempt_from_message(found, queue, max_retries=self._max_retries(spec) if spec else 0)
        result = self._result_for(attempt, outcome, how=how)
        if not self.finish(attempt, result):
            return None
        log.warning(
            "task finished in place of its process",
            task_id=task_id,
            task=attempt.name,
            now=result.state,
            error=result.error,
        )
        return result

    def _result_for(self, attempt: Attempt, outcome: Raised | None, *, how: str) -> AttemptResult:
        if how == "expired":
            return AttemptResult(TaskState.EXPIRED, error="It was not started in time.")
        if outcome is None:
            return AttemptResult(TaskState.CANCELLED, how=how)
        is_first_loss = attempt.number <= 1 and isinstance(outcome.error, WorkerLost)
        return self.policy.decide(attempt, outcome, schedule=(0.0,) if is_first_loss else None)

    def _new_attempt(self, delivered: DeliveredTask, lease: Lease, number: int) -> Attempt:
        return Attempt(
            task_id=delivered.task_id,
            name=delivered.spec.name,
            queue=lease.queue,
            number=number,
            lease=lease,
            max_retries=self._max_retries(delivered.spec),
            payload=delivered.payload,
            worker=delivered.worker,
            started_at=clock.now(),
            request_id=_request_id(delivered.headers),
        )

    def _max_retries(self, spec: TaskSpec) -> int:
        return self._settings.max_retries if spec.max_retries is None else spec.max_retries

    def _retry_while_leased(self, call: Callable[[], T]) -> T:
        """Repeat the call until it reaches the broker, for as long as a lease lasts.

        Giving up earlier would throw away finished work: the message would be delivered and run again.
        """
        until = monotonic() + self._settings.lease_seconds
        while True:
            try:
                with translated_errors():
                    return call()
            except BrokerUnavailable:
                if monotonic() >= until:
                    raise
                sleep(RECONNECT_SECONDS)


_Started: TypeAlias = tuple[AttemptStart, tuple[LeaseStatus, int, bytes]]


def _lease_of(delivered: DeliveredTask) -> Lease | None:
    """The lease under which a message was delivered; None if the engine has not delivered it."""
    try:
        return Lease.parse(str(delivered.headers.get(HEADER_LEASE)))
    except ValueError:
        return None


def ack_action(result: AttemptResult) -> AckAction:
    """Return what the acknowledgement does with the message after this result."""
    if result.state is not TaskState.SCHEDULED:
        return AckAction.DONE
    return AckAction.RETRY if result.counted else AckAction.SNOOZE


def with_message_options(spec: TaskSpec, headers: dict[str, Any]) -> TaskSpec:
    """Return the spec with the options that the message sets for this one task: the number of retries."""
    max_retries = headers.get(RETRIES_HEADER)
    if isinstance(max_retries, int) and max_retries >= 0:
        return replace(spec, max_retries=max_retries)
    return spec


def _attempt_from_message(found: MessageInfo, queue: str, *, max_retries: int) -> Attempt:
    return Attempt(
        task_id=found.stored.message.task_id,
        name=found.stored.message.name,
        queue=queue,
        number=found.attempts,
        max_retries=max_retries,
        payload={},
        worker=found.owner or "?",
        started_at=clock.now(),
        lease=found.lease,
        cancel_requested=found.cancelled,
    )


def _signal(code: LeaseStatus) -> AttemptSignal:
    if code is LeaseStatus.CANCELLED:
        return AttemptSignal.CANCEL
    return AttemptSignal.CONTINUE if code is LeaseStatus.DONE else AttemptSignal.LOST


def _request_id(headers: dict[str, Any]) -> str | None:
    value = headers.get(REQUEST_HEADER)
    return value[:REQUEST_ID_LIMIT] if isinstance(value, str) else None
