"""The outcomes of attempts, as values, and the one policy that decides what follows from them.

A task returns or raises; an `Outcome` says which. `OutcomePolicy.decide` turns the outcome into an `AttemptResult`: the
next state of the task, the delay of a retry, and everything that is stored. `Attempts` stores results and makes no
decisions.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
import traceback as tracebacks
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from functools import cache
from types import TracebackType
from typing import Any

from laneway.engine import Lease
from laneway.platform.errors import DatabaseUnavailable, InvalidPayload, ResultTooLarge
from laneway.platform.execution.retry import RetryPolicy, is_retryable
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.sealing import is_sealed
from laneway.platform.settings import TaskSettings
from laneway.schemas.task import TaskState

ERROR_LIMIT, TRACEBACK_LIMIT, RESULT_LIMIT = 4_000, 16_000, 1_000_000
"""Characters that are stored of an error and of the end of its traceback, and that a result as JSON may have."""
GROUP_CHARACTERS = 16
"""Characters of an error group's fingerprint."""
LONGEST_SNOOZE = 366 * 86_400.0
"""Seconds. A longer snooze, even an infinite one, is cut to this."""
DATABASE_SPREAD = 5
"""A task that did not get the database, or its payload, runs again after `retry_after` (5 s) to so many times
more."""


class AttemptSignal(Enum):
    """What a running attempt has to do now."""

    CONTINUE = "continue"
    """It holds its lease, and nobody cancelled the task."""
    CANCEL = "cancel"
    """It holds its lease, and the task was cancelled: stop."""
    LOST = "lost"
    """It does not own the task any more, and its reports change nothing."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One running attempt. `number` counts from 1 and starts again when the task is retried by hand."""

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
    call: bytes = b""
    """The id of the call that started it; on the delivery engine alone."""
    previous_call: bytes = b""
    """That of the attempt before at the same message."""
    cancel_requested: bool = False
    interrupted: bool = False
    """The watchdog raised TaskCancelled in the task, because it did not stop by itself or had lost its lease."""


@dataclass(frozen=True, slots=True)
class Skip:
    """This delivery is not run. `busy`: a living worker runs the task, so the delivery is postponed."""

    reason: str
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """The task returned."""

    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Raised:
    """The task raised. The policy decides whether it is retried."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The task asked to run again after `delay` seconds. That is no failure, and the attempt does not count."""

    delay: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The task stopped because it was cancelled. `how`: cooperative or interrupted."""

    how: str = "cooperative"


Outcome = Completed | Raised | Snoozed | Stopped


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What is stored about an attempt, and what happens next. SCHEDULED: the task runs again after `delay` seconds."""

    state: TaskState
    delay: float = 0.0
    counted: bool = True
    """Whether the attempt counts towards `max_retries`."""
    result: dict[str, Any] | None = None
    error: str | None = None
    error_type: str | None = None
    error_group: str | None = None
    traceback: str | None = None
    how: str | None = None
    """How a cancelled task stopped: cooperative, interrupted, killed or revoked."""

    def to_json(self) -> str:
        """The text that the journal keeps."""
        given = {name: value for name in _names_of(type(self)) if (value := getattr(self, name)) is not None}
        return json.dumps(given, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> AttemptResult:
        """Read a result from the journal. Fields of another version are ignored. Raises ValueError."""
        values: dict[str, Any] = json.loads(text)
        known: dict[str, Any] = {name: values[name] for name in _names_of(cls) if name in values}
        known["state"] = TaskState(values["state"])
        return cls(**known)


@cache
def _names_of(kind: type[AttemptResult]) -> tuple[str, ...]:
    """The fields. `asdict` would copy the whole result of the task."""
    return tuple(item.name for item in fields(kind))


@dataclass(frozen=True, slots=True)
class OutcomePolicy:
    """Decides what follows from an outcome, by its arguments alone. `draw` returns a random number in [0, 1)."""

    settings: TaskSettings
    draw: Callable[[], float] = field(default=random.random)

    def retry_policy(self, *, max_retries: int, schedule: tuple[float, ...] | None = None) -> RetryPolicy:
        """The retry policy of the settings, with the task's own number of retries and schedule."""
        return RetryPolicy(
            max_retries=max_retries,
            delay=self.settings.retry_delay,
            delay_max=self.settings.retry_delay_max,
            schedule=schedule,
        )

    def decide(self, attempt: Attempt, outcome: Outcome, *, schedule: tuple[float, ...] | None = None) -> AttemptResult:
        """The result of an attempt. `schedule`: seconds before each retry, instead of exponential backoff."""
        outcome = storable(outcome)
        if isinstance(outcome, Completed):
            return AttemptResult(TaskState.COMPLETED, result=outcome.result)
        if isinstance(outcome, Stopped) or attempt.cancel_requested:
            how = outcome.how if isinstance(outcome, Stopped) else "cooperative"
            return AttemptResult(TaskState.CANCELLED, how=how, **_error_fields(outcome))
        if isinstance(outcome, Snoozed):
            delay = min(max(0.0, outcome.delay), LONGEST_SNOOZE)
            reason = outcome.reason[:ERROR_LIMIT] or None
            return AttemptResult(TaskState.SCHEDULED, delay=delay, counted=False, error=reason)
        return self._decide_error(attempt, outcome, schedule)

    def _decide_error(self, attempt: Attempt, outcome: Raised, schedule: tuple[float, ...] | None) -> AttemptResult:
        if isinstance(outcome.error, DatabaseUnavailable | StorageUnavailable) and not _is_faulty(outcome.error):
            delay = outcome.error.retry_after * (1 + DATABASE_SPREAD * self.draw())
            return AttemptResult(TaskState.SCHEDULED, delay=delay, counted=False, **_error_fields(outcome))
        policy = self.retry_policy(max_retries=attempt.max_retries, schedule=schedule)
        delay = policy.next_delay(outcome.error, attempts=attempt.number, random=self.draw)
        if delay is not None:
            return AttemptResult(TaskState.SCHEDULED, delay=delay, **_error_fields(outcome))
        state = TaskState.DEAD_LETTER if is_retryable(outcome.error) else TaskState.FAILED
        return AttemptResult(state, **_error_fields(outcome))


def _is_faulty(error: DatabaseUnavailable | StorageUnavailable) -> bool:
    """Whether SQLite refused the statement itself, for example for a table that does not exist: a fault of the task.

    Otherwise the database is away or held. The task is not at fault then, and must not use up its retries.
    """
    original = getattr(error.__cause__, "orig", None)
    return isinstance(original, sqlite3.Error) and original.sqlite_errorcode == sqlite3.SQLITE_ERROR


def storable(outcome: Outcome) -> Outcome:
    """Return the outcome, or an error if its result cannot be stored: the task would otherwise have no outcome."""
    if not isinstance(outcome, Completed) or is_sealed(outcome.result):  # a sealed result was checked before
        return outcome
    try:
        size = len(json.dumps(outcome.result, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        return Raised(TypeError(f"the task's result is not JSON: {error}"))
    return Raised(ResultTooLarge(size, RESULT_LIMIT)) if size > RESULT_LIMIT else outcome


def error_group(kind: str, trace: TracebackType | None, message: str) -> str:
    """Return the fingerprint of an error: a digest of its class and of the innermost function of its traceback.

    An error without a traceback is grouped by its class and its message, whatever the digits in the message are.
    """
    frames: list[tracebacks.FrameSummary] = list(tracebacks.extract_tb(trace)) if trace else []
    origin = f"{frames[-1].filename}:{frames[-1].name}" if frames else re.sub(r"\d+", "#", message)
    return hashlib.sha256(f"{kind}\n{origin}".encode(errors="replace")).hexdigest()[:GROUP_CHARACTERS]


def _error_fields(outcome: Outcome) -> dict[str, Any]:
    if not isinstance(outcome, Raised):
        return {}
    error, kind = outcome.error, type(outcome.error).__name__
    text = _message(error) or kind
    return {
        "error": text[:ERROR_LIMIT],
        "error_type": kind,
        "traceback": _traceback(error),
        "error_group": error_group(kind, error.__traceback__, text),
    }


def _message(error: BaseException) -> str:
    """The error's message, or a note if its `__str__` raises."""
    try:
        return str(error).replace("\x00", "")  # PostgreSQL stores no null bytes
    except Exception as broken:  # noqa: BLE001
        return f"(an error whose message cannot be read: {type(broken).__name__})"


def _traceback(error: BaseException) -> str | None:
    if isinstance(error, InvalidPayload) or error.__traceback__ is None:
        return None
    return "".join(tracebacks.format_exception(error))[-TRACEBACK_LIMIT:].replace("\x00", "")
