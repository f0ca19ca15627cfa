"""What became of an attempt, as values, and the one place that decides what comes next.

A task returns or raises; `Outcome` says which. `Rule.decide` makes a `Ruling` of it: the state, the delay of a
retry, and everything that is kept. Executions persist rulings and decide nothing themselves.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import traceback as tracebacks
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from types import TracebackType
from typing import Any

from laneway.engine import Lease
from laneway.platform.errors import InvalidPayload, ResultTooLarge
from laneway.platform.execution.retry import RetryPolicy
from laneway.platform.schemas.task import TaskState
from laneway.platform.settings import TaskSettings

ERROR_LIMIT, TRACEBACK_LIMIT, RESULT_LIMIT = 4_000, 16_000, 1_000_000
"""Characters of an error, of its traceback (its end says most) and of a result (JSON) that are kept."""
GROUP_CHARACTERS = 16
LONGEST_SNOOZE = 366 * 86_400.0
"""Seconds: an endless one would be no delay at all."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One running attempt. `number`: from 1, in this run of the task."""

    task_id: str
    name: str
    queue: str
    number: int
    max_retries: int
    payload: dict[str, Any]
    worker: str
    started_at: datetime
    request_id: str | None = None
    lease: Lease | None = None
    cancel_requested: bool = False
    interrupted: bool = False
    """It was not stopped by looking whether it should be, but from outside."""


@dataclass(frozen=True, slots=True)
class Skip:
    """This delivery is not to be run; `busy`: not now, because a living worker runs the task."""

    reason: str
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """The task returned."""

    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Raised:
    """The task raised; the policy decides whether it is tried again."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The task wants to go on later (seconds); that is no failure, and the attempt does not count."""

    delay: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The task stopped because it was asked to; `how`: cooperative, interrupted or killed."""

    how: str = "cooperative"


Outcome = Completed | Raised | Snoozed | Stopped


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What is kept of an attempt, and what comes next. SCHEDULED means: once more, after `delay` seconds."""

    state: TaskState
    delay: float = 0.0
    counted: bool = True
    """Whether the attempt counts."""
    result: dict[str, Any] | None = None
    error: str | None = None
    error_type: str | None = None
    error_group: str | None = None
    traceback: str | None = None
    how: str | None = None
    """How a cancel came about."""

    def to_json(self) -> str:
        """For the journal."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> AttemptResult:
        """Of the journal; unknown fields, of another version, are left out. Raises ValueError."""
        values: dict[str, Any] = json.loads(text)
        known: dict[str, Any] = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        known["state"] = TaskState(values["state"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class OutcomePolicy:
    """Decides. Everything that it needs comes in; `draw` gives a number in [0, 1)."""

    settings: TaskSettings
    draw: Callable[[], float] = field(default=random.random)

    def policy(self, *, max_retries: int, schedule: tuple[float, ...] | None = None) -> RetryPolicy:
        """The retry policy from the settings, with a task's own number of retries and schedule."""
        return RetryPolicy(
            max_retries=max_retries,
            delay=self.settings.retry_delay,
            delay_max=self.settings.retry_delay_max,
            schedule=schedule,
        )

    def decide(self, attempt: Attempt, outcome: Outcome, *, schedule: tuple[float, ...] | None = None) -> AttemptResult:
        """What comes of this outcome."""
        outcome = _storable(outcome)
        if isinstance(outcome, Completed):
            return AttemptResult(TaskState.COMPLETED, result=outcome.result)
        if isinstance(outcome, Stopped) or attempt.cancel_requested:
            how = outcome.how if isinstance(outcome, Stopped) else "cooperative"
            return AttemptResult(TaskState.CANCELLED, how=how, **_told(outcome))
        if isinstance(outcome, Snoozed):
            delay = min(max(0.0, outcome.delay), LONGEST_SNOOZE)
            return AttemptResult(
                TaskState.SCHEDULED, delay=delay, counted=False, error=outcome.reason[:ERROR_LIMIT] or None
            )
        policy = self.policy(max_retries=attempt.max_retries, schedule=schedule)
        delay = policy.next_delay(outcome.error, attempts=attempt.number, random=self.draw)
        if delay is not None:
            return AttemptResult(TaskState.SCHEDULED, delay=delay, **_told(outcome))
        retryable = RetryPolicy(attempt.number, 0, 0).next_delay(
            outcome.error, attempts=attempt.number, random=self.draw
        )
        return AttemptResult(TaskState.FAILED if retryable is None else TaskState.DEAD_LETTER, **_told(outcome))


def error_group(kind: str, trace: TracebackType | None, message: str) -> str:
    """The fingerprint of an error: its class and the innermost place it came from; else its message without numbers."""
    frames: list[tracebacks.FrameSummary] = list(tracebacks.extract_tb(trace)) if trace else []
    place = f"{frames[-1].filename}:{frames[-1].name}" if frames else re.sub(r"\d+", "#", message)
    return hashlib.sha256(f"{kind}\n{place}".encode(errors="replace")).hexdigest()[:GROUP_CHARACTERS]


def _storable(outcome: Outcome) -> Outcome:
    """The same, or what is wrong with its result: one that cannot be kept would leave the task without an outcome."""
    if not isinstance(outcome, Completed):
        return outcome
    try:
        size = len(json.dumps(outcome.result, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        return Raised(TypeError(f"the task's result is not JSON: {error}"))
    return Raised(ResultTooLarge(size, RESULT_LIMIT)) if size > RESULT_LIMIT else outcome


def _told(outcome: Outcome) -> dict[str, Any]:
    if not isinstance(outcome, Raised):
        return {}
    error, kind = outcome.error, type(outcome.error).__name__
    text = _said(error) or kind
    return {
        "error": text[:ERROR_LIMIT],
        "error_type": kind,
        "traceback": _traceback(error),
        "error_group": error_group(kind, error.__traceback__, text),
    }


def _said(error: BaseException) -> str:
    """Its message; errors of tasks may fail to say it."""
    try:
        return str(error).replace("\x00", "")  # PostgreSQL stores no null bytes
    except Exception as broken:  # noqa: BLE001
        return f"(an error whose message cannot be had: {type(broken).__name__})"


def _traceback(error: BaseException) -> str | None:
    if isinstance(error, InvalidPayload) or error.__traceback__ is None:
        return None
    return "".join(tracebacks.format_exception(error))[-TRACEBACK_LIMIT:].replace("\x00", "")
