"""A platform in memory for one task that runs in this process: in a test (`laneway.testing.run`), or eagerly.

It keeps what the task does, and needs neither broker nor database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NoReturn

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from laneway.engine import EventKind
from laneway.platform import clock
from laneway.platform.errors import Conflict, StepTooLarge, TaskSnoozed
from laneway.platform.execution.outcomes import Attempt, AttemptSignal
from laneway.platform.execution.steps import STEP_LIMIT, checked_name
from laneway.platform.registry import TaskRef
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import Row, SubmitOptions, row_of, spec_of, validated
from laneway.platform.submission.transaction import Submission, outbox_row
from laneway.platform.submission.user_session import call_after_commit
from laneway.platform.wait_errors import WaitTimedOut
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskHandle, TaskState


@dataclass(frozen=True)
class Progress:
    """One progress report of the task."""

    percent: int
    message: str | None
    counters: dict[str, float]


@dataclass(frozen=True)
class Submitted:
    """A task that the task under test submitted."""

    task_id: str
    name: str
    payload: dict[str, Any]
    queue: str
    options: SubmitOptions


@dataclass(frozen=True)
class LimitReached:
    """A call of `ctx.limit_reached`."""

    limit: str
    seconds: float
    key: str


@dataclass
class Record:
    """What the task did, over all its attempts."""

    progress: list[Progress] = field(default_factory=list[Progress])
    log: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    output: list[Any] = field(default_factory=list[Any])
    steps: dict[str, Any] = field(default_factory=dict[str, Any])
    submitted: list[Submitted] = field(default_factory=list[Submitted])
    limits_reached: list[LimitReached] = field(default_factory=list[LimitReached])
    signals: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    """Name → data of the signals that the task has not received."""


class LocalPlatform:
    """What a running task sees of its platform. Other services are those of `behind`, if there is one."""

    def __init__(
        self,
        settings: TaskSettings,
        record: Record,
        *,
        behind: object | None,
        cancel_at: int | None = None,
        on_submit: Callable[[Submitted], object] | None = None,
    ) -> None:
        """`cancel_at`: the report, counted from 1, at which the task learns that it was cancelled.

        `on_submit` is called with each submission.
        """
        self.record, self._behind = record, behind
        self.settings: Any = getattr(behind, "settings", None) or SimpleNamespace(tasks=settings)
        self.attempts = _Attempts(record, cancel_at)
        self.steps = _Steps(record.steps)
        self.tasks = _Tasks(settings, record.submitted, on_submit)
        self.waits = _Waits(record)
        self.cancellation_watchdog = _NoWatchdog()
        if behind is None:
            self.batches = _NoBatches()

    def block_limit(self, name: str, seconds: float, *, key: str) -> None:
        """Note that a limit was reached."""
        self.record.limits_reached.append(LimitReached(name, seconds, key))

    def __getattr__(self, name: str) -> Any:
        if self._behind is None:
            raise AttributeError(
                f"The task uses `platform.{name}`, and there is no platform here. "
                f"In a test, give it an object with that attribute: run(task, payload, platform=...)"
            )
        return getattr(self._behind, name)


class _Attempts:
    """Records reports. There is one attempt at a time, and it always holds its task."""

    def __init__(self, record: Record, cancel_at: int | None) -> None:
        self._record, self._cancel_at = record, cancel_at
        self._checks = 0

    def report(self, attempt: Attempt, kind: EventKind, data: dict[str, Any]) -> AttemptSignal:
        """Keep a report, and return what the attempt has to do."""
        if kind is EventKind.LOG:
            self._record.log.append(data)
            return AttemptSignal.CONTINUE
        if kind is EventKind.OUTPUT:
            self._record.output.extend(data["chunks"])
            return self._signal(attempt)
        self._record.progress.append(Progress(data["percent"], data.get("message"), data.get("counters", {})))
        return self._signal(attempt)

    def check_cancelled(self, attempts: Sequence[Attempt]) -> list[AttemptSignal]:
        """What each attempt has to do."""
        return [self._signal(attempt) for attempt in attempts]

    def _signal(self, attempt: Attempt) -> AttemptSignal:
        self._checks += 1
        if self._cancel_at is not None and self._checks >= self._cancel_at:
            attempt.cancel_requested = True
        return AttemptSignal.CANCEL if attempt.cancel_requested else AttemptSignal.CONTINUE


class _Steps:
    """The stored steps of the task, by name."""

    def __init__(self, stored: dict[str, Any]) -> None:
        self._stored = stored

    def run_once(self, attempt: Attempt, name: str, work: Callable[[], Any]) -> Any:
        """Return the stored result, or run the work and store its result."""
        del attempt
        if checked_name(name) not in self._stored:
            self._store(name, work())
        return json.loads(json.dumps(self._stored[name]))

    def finished_items(self, attempt: Attempt, name: str) -> int:
        """Return the number of finished items of a loop."""
        del attempt
        return int(self._stored.get(checked_name(name), 0))

    def save_finished_items(self, attempt: Attempt, name: str, number: int) -> None:
        """Store the number of finished items of a loop."""
        del attempt
        self._store(name, number)

    def _store(self, name: str, result: Any) -> None:
        text = json.dumps(result, allow_nan=False)
        if len(text) > STEP_LIMIT:
            raise StepTooLarge(name, len(text), STEP_LIMIT)
        self._stored[name] = json.loads(text)


class _Waits:
    """Waits as a real platform does, but a signal that the test has not given does not come."""

    def __init__(self, record: Record) -> None:
        self._record, self._taken = record, dict[str, Any]()

    def sleep(self, attempt: Attempt, name: str, *, seconds: float) -> None:
        """End the attempt; the next one goes on."""
        del attempt
        if name not in self._taken:
            self._taken[name] = seconds
            raise TaskSnoozed(seconds, "it waits for the end of its sleep")

    def for_signal(self, attempt: Attempt, name: str, signal: str, *, timeout: float | None) -> Any:
        """The next signal that the test gave. Raises WaitTimedOut if there is none."""
        del attempt
        if name not in self._taken:
            given = self._record.signals.get(signal)
            if not given:
                raise WaitTimedOut(f"the signal {signal!r}", timeout or 0)
            self._taken[name] = given.pop(0)
        return self._taken[name]

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"A task that runs in this process has no `ctx.wait_{name}`: test this with a real platform"
        )


class _Tasks:
    """Keeps submissions, checked as the task manager checks them."""

    def __init__(
        self, settings: TaskSettings, submitted: list[Submitted], on_submit: Callable[[Submitted], object] | None
    ) -> None:
        self._settings, self._submitted, self._on_submit = settings, submitted, on_submit

    def submit(
        self,
        task: TaskRef,
        payload: Payload | dict[str, Any],
        *,
        options: SubmitOptions | None = None,
        **short: Any,
    ) -> TaskHandle:
        """Keep a submission. Raises what `TaskManager.submit` raises for its arguments."""
        spec, options = spec_of(task), options or SubmitOptions(**short)
        return self._keep(row_of(spec, validated(spec, payload), options, self._settings, sealed=False), options)

    def submit_many(self, submissions: Sequence[Submission]) -> list[TaskHandle]:
        """Keep many submissions: all, or none when one of them is refused."""
        rows = [outbox_row(each, self._settings, sealed=False) for each in submissions]
        return [self._keep(row, each.options) for row, each in zip(rows, submissions, strict=True)]

    def submit_in(self, session: Session | Connection, submissions: Sequence[Submission]) -> list[TaskHandle]:
        """Keep submissions when the session is committed; for a connection, which does not tell, at once."""
        rows = [outbox_row(each, self._settings, sealed=False) for each in submissions]

        def keep() -> list[TaskHandle]:
            return [self._keep(row, each.options) for row, each in zip(rows, submissions, strict=True)]

        if isinstance(session, Connection):
            return keep()
        call_after_commit(session, keep)
        return [TaskHandle(task_id=row["id"], state=TaskState.ACCEPTED, created=True) for row in rows]

    def _keep(self, row: Row, options: SubmitOptions) -> TaskHandle:
        known = next((one for one in self._submitted if one.task_id == row["id"]), None)
        if known is None:
            self._submitted.append(Submitted(row["id"], row["name"], row["payload"], row["queue"], options))
            if self._on_submit is not None:
                self._on_submit(self._submitted[-1])
        elif (known.name, known.payload) != (row["name"], row["payload"]):
            raise Conflict(f"The id {known.task_id!r} belongs to another task.")
        return TaskHandle(task_id=row["id"], state=TaskState(row["state"]), created=known is None)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"A task that runs in this process has no `platform.tasks.{name}`: test this with a real platform"
        )


class _NoBatches:
    """The task belongs to no batch."""

    def batch_of(self, task_id: str) -> None:
        """No batch."""
        del task_id


class _NoWatchdog:
    @contextmanager
    def watch(self, attempt: Attempt, *, interrupt: bool = True) -> Generator[None]:
        """Watch nothing: the task learns of a cancellation by its reports."""
        del attempt, interrupt
        yield


def new_attempt(task: Any, payload: Payload, settings: TaskSettings, *, id: str, number: int) -> Attempt:
    """Return an attempt as a worker would start it."""
    retries = task.spec.max_retries
    return Attempt(
        task_id=id,
        name=task.spec.name,
        queue=task.spec.queue,
        number=number,
        max_retries=settings.max_retries if retries is None else retries,
        payload=payload.model_dump(mode="json"),
        worker="test",
        started_at=clock.now(),
    )
