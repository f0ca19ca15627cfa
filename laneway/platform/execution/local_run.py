"""Runs a task in this process, without servers, as a worker would run it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, Protocol, cast
from uuid import uuid4

from laneway.platform.current import platform_for_this_context
from laneway.platform.execution.local_platform import LocalPlatform, Progress, Record, Submitted, new_attempt
from laneway.platform.execution.outcomes import Attempt, AttemptResult, Completed, Outcome, OutcomePolicy, Raised
from laneway.platform.registry import TaskSpec, registry
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import validated
from laneway.schemas.payload import Payload
from laneway.schemas.task import FINISHED, TaskState

MOST_RUNS = 1_000
"""Attempts and snoozes after which a task counts as endless."""


@dataclass(frozen=True)
class AttemptRun:
    """One attempt: what it led to."""

    number: int
    state: TaskState
    """SCHEDULED: the task runs again after `delay` seconds."""
    delay: float
    error: BaseException | None
    result: AttemptResult = field(repr=False)
    started_at: datetime = field(repr=False)


@dataclass(repr=False, eq=False)
class LocalRun:
    """A task after it was run: its outcome, and everything that it did."""

    task_id: str
    state: TaskState
    result: dict[str, Any] | None = None
    error: BaseException | None = None
    """The exception of the last attempt."""
    attempts: list[AttemptRun] = field(default_factory=list[AttemptRun])
    record: Record = field(default_factory=Record)

    def __repr__(self) -> str:
        """What a failed assertion shows: the outcome, and each attempt that was not the end of it."""
        fields = [f"state={self.state.value!r}", f"result={self.result!r}"]
        if self.error is not None:
            fields.append(f"error={self.error!r}")
        if len(self.attempts) > 1:
            fields.append(f"attempts={len(self.attempts)}, delays={self.delays}")
        fields += [f"{name}={value!r}" for name, value in self._activity() if value]
        return f"LocalRun({', '.join(fields)})"

    def _activity(self) -> tuple[tuple[str, Any], ...]:
        submitted = [f"{one.name}({one.payload!r})" for one in self.submitted]
        return ("progress", [one.percent for one in self.progress]), ("steps", self.steps), ("submitted", submitted)

    @property
    def waited(self) -> float:
        """The seconds that the task would have waited between its attempts. The test does not wait."""
        return sum(attempt.delay for attempt in self.attempts)

    @property
    def delays(self) -> list[float]:
        """The seconds between the attempts."""
        return [attempt.delay for attempt in self.attempts if attempt.state is TaskState.SCHEDULED]

    @property
    def progress(self) -> list[Progress]:
        """The progress reports, in order."""
        return self.record.progress

    @property
    def output(self) -> list[Any]:
        """The chunks that the task has written, over all its attempts."""
        return self.record.output

    @property
    def log(self) -> list[str]:
        """The texts of the log lines, from INFO on."""
        return [line["text"] for line in self.record.log]

    @property
    def steps(self) -> dict[str, Any]:
        """Step → its result; loop → number of finished items."""
        return self.record.steps

    @property
    def submitted(self) -> list[Submitted]:
        """The tasks that the task submitted."""
        return self.record.submitted


class LocalTask(Protocol):
    """What is needed of a `PlatformTask`."""

    name: str
    spec: TaskSpec

    def work_on(self, attempt: Attempt) -> Outcome:
        """Run the function for an attempt."""
        ...

    def work_on_chunk(self, attempts: Sequence[Attempt], *, id: str) -> list[Outcome]:
        """Run the function of a chunk task once for these attempts."""
        ...


def run_locally(
    task: LocalTask,
    payload: Payload | Mapping[str, Any],
    *,
    local: Callable[[Record], LocalPlatform],
    settings: TaskSettings,
    id: str | None = None,
    attempts: int | None = None,
    steps: Mapping[str, Any] | None = None,
    signals: Mapping[str, Sequence[dict[str, Any]]] | None = None,
    reraise: bool = False,
    wait: Callable[[float], object] = lambda _seconds: None,
) -> LocalRun:
    """Run a task to its end, with its retries and snoozes; see `laneway.testing.run`.

    `wait` is called with the delay before each further attempt. By default nothing waits.
    """
    checked = validated(task.spec, payload if isinstance(payload, Payload) else dict(payload))
    given = {name: list(data) for name, data in (signals or {}).items()}
    record = Record(steps=dict(steps or {}), signals=given)
    done = LocalRun(task_id=id or str(uuid4()), state=TaskState.PENDING, record=record)
    platform = local(done.record)
    while done.state not in FINISHED and len(done.attempts) != attempts:
        if len(done.attempts) == MOST_RUNS:
            raise RuntimeError(f"The task {task.name} did not end in {MOST_RUNS} attempts")
        if done.attempts:
            wait(done.attempts[-1].delay)
        _run_attempt(task, checked, done, platform, settings, reraise=reraise)
    return done


def run_chunks_locally(
    task: LocalTask,
    payloads: Sequence[Payload | Mapping[str, Any]],
    *,
    local: Callable[[Record], LocalPlatform],
    settings: TaskSettings,
) -> list[LocalRun]:
    """Run tasks in chunks to their end; what failed runs again in later chunks. See `laneway.testing.run_many`."""
    chunk, record = task.spec.chunk, Record()
    if chunk is None:
        raise TypeError(f"The task {task.name!r} runs alone: use laneway.testing.run.")
    runs = {
        LocalRun(str(uuid4()), TaskState.PENDING, record=record): validated(
            task.spec, each if isinstance(each, Payload) else dict(each)
        )
        for each in payloads
    }
    platform = local(record)
    while left := [run for run in runs if run.state not in FINISHED]:
        if len(left[0].attempts) == MOST_RUNS:
            raise RuntimeError(f"The task {task.name} did not end in {MOST_RUNS} attempts")
        together = left[: chunk.size]
        _run_chunk(task, [(run, runs[run]) for run in together], platform, settings)
    return list(runs)


def _run_chunk(
    task: LocalTask, runs: Sequence[tuple[LocalRun, Payload]], local: LocalPlatform, settings: TaskSettings
) -> None:
    attempts = [
        new_attempt(task, payload, settings, id=done.task_id, number=_next_number(done)) for done, payload in runs
    ]
    with _running(task, attempts[0].task_id, local):
        outcomes = task.work_on_chunk(attempts, id=attempts[0].task_id)
    policy = OutcomePolicy(settings, draw=lambda: 0.0)
    for (done, _), attempt, outcome in zip(runs, attempts, outcomes, strict=True):
        _keep(done, attempt, outcome, policy.decide(attempt, outcome, schedule=task.spec.delays))


def run_eagerly(task: LocalTask, payload: Mapping[str, Any], *, id: str, behind: object | None) -> LocalRun:
    """Run a task for `task.apply()` and `task_always_eager`. Tasks that it submits run as well, as it submits them."""
    settings = task_settings()

    def run_submitted(submitted: Submitted) -> None:
        submitted_task: Any = registry.task(submitted.name)
        if submitted_task is not None:
            run_eagerly(submitted_task, submitted.payload, id=submitted.task_id, behind=behind)

    def local(record: Record) -> LocalPlatform:
        return LocalPlatform(settings, record, behind=behind, on_submit=run_submitted)

    return run_locally(task, payload, local=local, settings=settings, id=id)


def task_settings() -> TaskSettings:
    """The limits of tasks of the environment."""
    return TaskSettings()  # pyright: ignore[reportCallIssue] - its fields come from the environment


def _run_attempt(
    task: LocalTask, payload: Payload, done: LocalRun, local: LocalPlatform, settings: TaskSettings, *, reraise: bool
) -> None:
    attempt = new_attempt(task, payload, settings, id=done.task_id, number=_next_number(done))
    with _running(task, done.task_id, local):
        outcome = task.work_on(attempt)
    if reraise and isinstance(outcome, Raised):
        raise outcome.error
    policy = OutcomePolicy(settings, draw=lambda: 0.0)  # the shortest of the random delays
    _keep(done, attempt, outcome, policy.decide(attempt, outcome, schedule=task.spec.delays))


def _next_number(done: LocalRun) -> int:
    return 1 + sum(attempt.result.counted for attempt in done.attempts)


@contextmanager
def _running(task: LocalTask, id: str, local: LocalPlatform) -> Generator[None]:
    """While the block runs, the task is the running one, and the local platform is the platform."""
    celery_task = cast("Any", task)
    celery_task.push_request(id=id, hostname="test", laneway_started=monotonic(), timelimit=(None, None))
    try:
        with platform_for_this_context(local):
            yield
    finally:
        celery_task.pop_request()


def _keep(done: LocalRun, attempt: Attempt, outcome: Outcome, result: AttemptResult) -> None:
    error = outcome.error if isinstance(outcome, Raised) else None
    done.attempts.append(AttemptRun(attempt.number, result.state, result.delay, error, result, attempt.started_at))
    done.state, done.error = result.state, error
    done.result = outcome.result if isinstance(outcome, Completed) and result.state is TaskState.COMPLETED else None
