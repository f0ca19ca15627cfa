"""Attempts on the delivery engine: begun and concluded there, atomically with the message that they are about.

1. `begin`: the engine numbers the attempt, if the lease is still held and the task was not cancelled.
2. The task runs. Its outcome is a value; `outcomes.Rule` decides what comes of it.
3. `conclude`: the ruling is tied to the message and noted in the journal, in one step. The first one stands.
4. The acknowledgement (Celery, acks late) carries it out. A worker that dies before it has lost nothing: the end of its
   lease carries it out as well.

A crash before the conclusion: the message is delivered again, and the attempt is noted as lost. The database is not
needed for any of it; the recorder (`history.py`) follows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from secrets import token_bytes
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar

from laneway.engine import AckAction, Engine, Kind, Lease, LeaseStatus, MessageInfo
from laneway.platform import clock
from laneway.platform.broker_errors import translated_errors
from laneway.platform.errors import BrokerUnavailable, WorkerLost
from laneway.platform.execution.outcomes import Attempt, AttemptResult, OutcomePolicy, Raised, Skip
from laneway.platform.logging import logger
from laneway.platform.registry import TaskSpec
from laneway.platform.schemas.task import TaskState
from laneway.platform.settings import TaskSettings
from laneway.platform.task_messages import REQUEST_HEADER, RETRIES_HEADER
from laneway.transport.codec import HEADER_LEASE

log = logger(__name__)
T = TypeVar("T")

HELD = (LeaseStatus.DONE, LeaseStatus.CANCELLED)
PAUSE = 0.25
"""Seconds between two tries to reach a broker that is away."""


@dataclass(frozen=True, slots=True)
class DeliveredTask:
    """A message as a worker has it."""

    task_id: str
    spec: TaskSpec
    queue: str
    payload: dict[str, Any]
    headers: dict[str, Any]
    worker: str


class Attempts(Protocol):
    """Begins and concludes attempts."""

    rule: OutcomePolicy

    def begin(self, delivered: DeliveredTask) -> Attempt | Skip:
        """Begin an attempt, or say why this delivery is not to be run. Raises Broker- or DatabaseUnavailable."""
        ...

    def conclude(self, attempt: Attempt, ruling: AttemptResult) -> bool:
        """Persist what was ruled; False when the attempt lost its say, and nothing was changed."""
        ...

    def report(self, attempt: Attempt, kind: Kind, said: dict[str, Any]) -> bool | None:
        """Note progress or a log line; True when the task was asked to stop, None when the attempt lost its say."""
        ...

    def asked_to_stop(self, attempts: Sequence[Attempt]) -> list[bool | None]:
        """For each: True when the task was asked to stop, None when the attempt lost its say."""
        ...

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
        """From outside, for a process that cannot: its task's outcome, or None when it was stopped (`how`).

        Gives back what was ruled. Nothing is done when `worker`, or `lease`, does not have the task any more: it is
        somebody else's by now.
        """
        ...


class EngineAttempts:
    """On the delivery engine."""

    def __init__(self, engine: Engine, settings: TaskSettings) -> None:
        self._engine, self._settings, self.rule = engine, settings, OutcomePolicy(settings)

    def begin(self, delivered: DeliveredTask) -> Attempt | Skip:
        """Begin; a task that lost its worker too often is a dead letter instead."""
        try:
            lease = Lease.parse(str(delivered.headers.get(HEADER_LEASE)))
        except ValueError:
            return Skip("it was not delivered by the engine")
        call = token_bytes(6)  # the same for each try: one whose answer was lost begins nothing new
        code, number = self._patiently(lambda: self._engine.start_attempt(lease, worker=delivered.worker, call=call))
        if code is LeaseStatus.CANCELLED:
            return Skip("it was cancelled")
        if code not in HELD:
            return Skip("its lease was over")
        attempt = Attempt(
            task_id=delivered.task_id,
            name=delivered.spec.name,
            queue=lease.queue,
            number=number,
            lease=lease,
            max_retries=self._retries(delivered.spec),
            payload=delivered.payload,
            worker=delivered.worker,
            started_at=clock.now(),
            request_id=_text(delivered.headers.get(REQUEST_HEADER)),
        )
        if number > attempt.max_retries + 1:
            lost = Raised(WorkerLost("each of its workers"))
            self.conclude(attempt, self.rule.decide(attempt, lost))
            return Skip("it lost its worker too often")
        return attempt

    def conclude(self, attempt: Attempt, ruling: AttemptResult) -> bool:
        """Tie the ruling to the message."""
        lease = attempt.lease
        if lease is None:
            return False
        verdict = AckAction.DONE
        if ruling.state is TaskState.SCHEDULED:
            verdict = AckAction.RETRY if ruling.counted else AckAction.SNOOZE
        outcome, delay = ruling.to_json(), round(ruling.delay * 1000)
        code = self._patiently(lambda: self._engine.finish_attempt(lease, verdict, outcome=outcome, delay_ms=delay))
        if code not in HELD:
            log.warning("outcome refused: the attempt lost its lease", task_id=attempt.task_id, attempt=attempt.number)
        return code in HELD

    def report(self, attempt: Attempt, kind: Kind, said: dict[str, Any]) -> bool | None:
        """Note it in the journal."""
        lease = attempt.lease
        if lease is None:
            return None
        with translated_errors():
            return _stop(self._engine.report(lease, kind, json.dumps(said, default=str)))

    def asked_to_stop(self, attempts: Sequence[Attempt]) -> list[bool | None]:
        """One look at all leases."""
        leases = [attempt.lease for attempt in attempts if attempt.lease]
        with translated_errors():
            codes = iter(self._engine.check_leases(leases))
        return [_stop(next(codes)) if attempt.lease else None for attempt in attempts]

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
        """By the lease that the engine knows; nothing is done when the attempt has been concluded."""
        del worker
        with translated_errors():
            found = self._engine.find_many(queue, [task_id])[0]
        if found is None or found.lease is None or lease not in (None, str(found.lease)):
            return None
        attempt = _attempt_of(found, queue, max_retries=self._retries(spec) if spec else 0)
        ruling = AttemptResult(TaskState.CANCELLED, how=how)
        if how == "expired":
            ruling = AttemptResult(TaskState.EXPIRED, error="It was not started in time.")
        elif outcome is not None:
            schedule = (0.0,) if attempt.number <= 1 and isinstance(outcome.error, WorkerLost) else None
            ruling = self.rule.decide(attempt, outcome, schedule=schedule)
        if not self.conclude(attempt, ruling):
            return None
        log.warning(
            "task settled for its process", task_id=task_id, task=attempt.name, now=ruling.state, error=ruling.error
        )
        return ruling

    def _retries(self, spec: TaskSpec) -> int:
        return self._settings.max_retries if spec.max_retries is None else spec.max_retries

    def _patiently(self, call: Callable[[], T]) -> T:
        """Try for as long as the lease can last: what was done would be done again."""
        until = monotonic() + self._settings.lease_seconds
        while True:
            try:
                with translated_errors():
                    return call()
            except BrokerUnavailable:
                if monotonic() >= until:
                    raise
                sleep(PAUSE)


def as_asked(spec: TaskSpec, headers: dict[str, Any]) -> TaskSpec:
    """What a message says about its task where that differs from the catalog: how often it may be retried."""
    own = headers.get(RETRIES_HEADER)
    return replace(spec, max_retries=own) if isinstance(own, int) and own >= 0 else spec


def _attempt_of(found: MessageInfo, queue: str, *, max_retries: int) -> Attempt:
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


def _stop(code: LeaseStatus) -> bool | None:
    return {LeaseStatus.DONE: False, LeaseStatus.CANCELLED: True}.get(code)


def _text(value: object) -> str | None:
    return value[:64] if isinstance(value, str) else None
