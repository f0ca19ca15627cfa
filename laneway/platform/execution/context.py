"""`Context`: the running task, as its function sees it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from functools import cached_property, partial
from typing import Any, NoReturn, TypeVar

from structlog.stdlib import BoundLogger

from laneway.engine import EventKind
from laneway.platform import clock, tracing
from laneway.platform.batches.batch import Batch
from laneway.platform.errors import PlatformError, TaskCancelled, TaskSnoozed
from laneway.platform.execution.outcomes import Attempt, AttemptSignal
from laneway.platform.execution.output import OutputWriter
from laneway.platform.execution.progress import ProgressReports
from laneway.platform.execution.shutdown import is_shutting_down
from laneway.platform.execution.steps import NAME_LIMIT
from laneway.platform.logging import logger
from laneway.platform.platform import Platform
from laneway.platform.registry import TaskRef
from laneway.platform.wait_errors import AwaitedTaskFailed
from laneway.schemas.choices import RunState, TaskState
from laneway.schemas.payload import Payload

Item = TypeVar("Item")


class Context:
    """The running task. A function gets it as its first parameter, if that is annotated with `Context`.

        @task(queue="imports", retries=5)
        def import_rows(ctx: Context, payload: Import) -> dict[str, int]:
            rows = ctx.step("fetch", fetch, payload.url)        # runs once, also if a later attempt repeats the task
            for row in ctx.loop("store", rows):                 # resumes at the first unfinished row
                store(row)
                ctx.progress(50, "storing")                     # stops the task here if somebody cancelled it
            return {"rows": len(rows)}

    What the function does decides how the task continues:

    | the function | the task |
    |---|---|
    | returns None, a dict or a pydantic model | is completed; the result is stored as JSON of at most 1 MB |
    | raises an error that a retry may help | runs again after a delay, `retries` times, and then is a dead letter |
    | raises an error that a retry cannot help (PermanentError, ValueError, TypeError, …) | fails |
    | calls `ctx.snooze(seconds)` | runs again after that time; the attempt does not count |
    | calls `ctx.sleep(seconds)` or a `ctx.wait_for_…` | goes on there later; no worker is held meanwhile |
    | does not catch TaskCancelled | is cancelled |

    A crash at any point repeats the attempt. So effects must be safe to repeat: store them under `ctx.id`.
    """

    def __init__(self, attempt: Attempt, platform: Platform) -> None:
        self._attempt, self._platform, self._reports = attempt, platform, ProgressReports()
        self._output: OutputWriter | None = None
        self._waits = Counter[str]()

    @property
    def id(self) -> str:
        """The id of the task. It stays the same in every attempt."""
        return self._attempt.task_id

    @property
    def name(self) -> str:
        """The name of the task: of which kind it is."""
        return self._attempt.name

    @property
    def attempt(self) -> int:
        """The number of this attempt: 1 for the first one, 2 for the first retry.

        It does not grow after a snooze, and starts at 1 again after a retry by hand.
        """
        return self._attempt.number

    @property
    def platform(self) -> Platform:
        """The platform of this process: its task manager, its database and its other services."""
        return self._platform

    @cached_property
    def batch(self) -> Batch | None:
        """The batch of this task, to which it may add tasks; None: it belongs to none. Raises DatabaseUnavailable.

        ctx.batch.add_many(store_part, parts, ids=[f"{ctx.id}:{n}" for n in range(len(parts))])
        """
        id = self._platform.batches.batch_of(self.id)
        return None if id is None else Batch(id, batches=self._platform.batches)

    @property
    def log(self) -> BoundLogger:
        """A logger. The worker writes its lines with the task's id, and they become events of the task.

            ctx.log.info("resized", width=64)

        So do lines of `logging` and of `structlog` that the function writes elsewhere, at most 200 an attempt.
        """
        return logger(self._attempt.name)

    def progress(self, percent: float, message: str | None = None, **counters: float) -> None:
        """Report how far the task is; the report is shown in its status and in its events.

        `percent`: 0 to 100, cut to whole numbers; it never goes down within an attempt. `message`: what the task does
        now. `counters`: any numbers, by name. Report as often as you like: a report is recorded when the last one is
        0.25 s old, when it has a new message (20 at once, then 4 a second), or at the end of the attempt.

        Raises TaskCancelled when the task was cancelled or another worker has taken it over: do not catch it. Raises
        BrokerUnavailable (without the delivery engine: DatabaseUnavailable).
        """
        report = self._reports.add(percent, message, counters)
        if report is None:
            return
        if self._platform.attempts.report(self._attempt, EventKind.PROGRESS, report) is not AttemptSignal.CONTINUE:
            raise TaskCancelled

    def write(self, chunk: Any) -> None:
        """Write a chunk of the task's output: a text, or any JSON value. Watchers of the task get it while it runs.

            for token in model.stream(payload.question):
                ctx.write(token)

        Write as often as you like: chunks are sent in groups, after 0.1 s or 16,000 characters. `Client.output` and
        `laneway watch` show them as they come, and again for as long as the history keeps the task. A retry writes
        its output anew.

        A chunk may have 64,000 characters of JSON, the output of an attempt 5,000,000: else it raises OutputTooLarge. A
        task that writes more than 200,000 characters a second waits here. Raises TaskCancelled as `progress` does,
        TypeError or ValueError for what is not JSON, and BrokerUnavailable (without the delivery engine:
        DatabaseUnavailable).
        """
        if self._output is None:
            self._output = OutputWriter(partial(self._platform.attempts.report, self._attempt, EventKind.OUTPUT))
        self._output.write(chunk)

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled when the task was cancelled, or when another worker has taken it over.

        Call it in long work that reports no progress. Raises BrokerUnavailable (without the delivery engine:
        DatabaseUnavailable).
        """
        if self._attempt.cancel_requested:
            raise TaskCancelled
        if self._platform.attempts.check_cancelled([self._attempt])[0] is not AttemptSignal.CONTINUE:
            raise TaskCancelled

    def snooze(self, seconds: float, reason: str = "") -> NoReturn:
        """End this attempt, and run the task again from the beginning after `seconds` (0 to 366 days).

        That is no failure, and the attempt does not count as a retry. `reason` is shown in the status. This raises
        TaskSnoozed: do not catch it.
        """
        raise TaskSnoozed(seconds, reason)

    def limit_reached(self, limit: str, seconds: float, *, key: str = "", reason: str = "") -> NoReturn:
        """End this attempt, and let nothing through this limit for `seconds` (at most a day); then run the task again.

        For a service that answers 429: what it says with `Retry-After` holds for every task of the limit, on all
        workers. `key`: for this key of the limit alone. It raises TaskSnoozed: the attempt does not count. Without the
        delivery engine, the task alone waits.
        """
        self._platform.block_limit(limit, seconds, key=key)
        raise TaskSnoozed(seconds, reason or f"the limit {limit} is reached")

    def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `work(*args, **kwargs)` once and store its result; a later attempt gets the stored result instead.

        `name`: 1 to 155 characters, unique in the task. The result is returned as it is read back from JSON: a tuple
        becomes a list. After a crash between the call and the storing, the call is repeated.

        Raises TaskCancelled as `raise_if_cancelled` does, StepTooLarge for more than 1,000,000 characters of JSON,
        TypeError or ValueError for a result that is not JSON, PermanentError for an unusable name, DatabaseUnavailable,
        and whatever `work` raises.
        """
        self.raise_if_cancelled()
        if (spans := tracing.active) is not None:
            work = spans.traced(f"step {name}", work)
        return self._platform.steps.run_once(self._attempt, name, lambda: work(*args, **kwargs))

    def loop(self, name: str, items: Sequence[Item]) -> Iterator[Item]:
        """Iterate over the items that no earlier attempt has finished.

        The number of finished items is stored after each one, under `name` (1 to 155 characters, unique in the task).
        So `items` must be the same in every attempt, in the same order. A crash repeats the item that was running.

        When the worker shuts down, the loop stops at the next item: the task is snoozed for 0 s, and continues on
        another worker. Raises TaskCancelled, PermanentError for an unusable name, and DatabaseUnavailable.
        """
        first = self._platform.steps.finished_items(self._attempt, name)
        for index in range(first, len(items)):
            self.raise_if_cancelled()
            if is_shutting_down():
                raise TaskSnoozed(0, "the worker shuts down")
            yield items[index]
            self._platform.steps.save_finished_items(self._attempt, name, index + 1)

    def sleep(self, seconds: float | None = None, *, until: datetime | None = None) -> None:
        """Wait for `seconds`, or until a time with a time zone, without a worker: at most 366 days.

        The attempt ends and does not count; the task goes on after that time, on any worker. It is repeated up to here
        then, so what was done before has to be in `step` or `loop`. Waits are told apart by their order: the task must
        come to the same waits in each attempt. Do not catch TaskSnoozed. Raises TaskCancelled, DatabaseUnavailable.
        """
        if (seconds is None) is (until is None):
            raise TypeError("sleep() takes either seconds or until.")
        if until is not None and until.tzinfo is None:
            raise ValueError("sleep(until=...) takes a time with a time zone.")
        left = seconds if until is None else (until - clock.now()).total_seconds()
        self.raise_if_cancelled()
        self._platform.waits.sleep(self._attempt, self._wait_name("sleep"), seconds=_checked_seconds(left or 0))

    def wait_for_signal(self, name: str, *, timeout: float | None = None) -> dict[str, Any]:
        """Wait, without a worker, for a signal that is sent to this task; return its data.

        Signals are sent by `laneway signal`, `POST /tasks/{id}/signals/{name}` and `TaskManager.signal`, also before
        the task waits. Each wait takes one, the oldest first. `timeout`: seconds. As `sleep`; also raises
        WaitTimedOut.
        """
        self.raise_if_cancelled()
        waits, wait = self._platform.waits, self._wait_name(f"signal {name}")
        return waits.for_signal(self._attempt, wait, name, timeout=_checked_timeout(timeout))

    def wait_for_task(self, id: str, *, timeout: float | None = None) -> dict[str, Any] | None:
        """Wait, without a worker, for the end of another task; return its result.

        As `sleep`. Raises AwaitedTaskFailed when it ends without being completed, WaitTimedOut, UnknownTask, and
        PermanentError for a task that can only run after this one.
        """
        self.raise_if_cancelled()
        waits, wait = self._platform.waits, self._wait_name(f"task {id}")
        end = waits.for_task(self._attempt, wait, id, timeout=_checked_timeout(timeout))
        if end["state"] != TaskState.COMPLETED:
            raise AwaitedTaskFailed(id, end["state"], end["error"])
        return end["result"]

    def wait_for_workflow(self, id: str, *, timeout: float | None = None) -> dict[str, Any]:
        """Wait, without a worker, for the end of a workflow; return its output: last step → output.

        As `sleep`. Raises AwaitedTaskFailed when it ends without being completed, WaitTimedOut, NotFound.
        """
        self.raise_if_cancelled()
        waits, wait = self._platform.waits, self._wait_name(f"workflow {id}")
        end = waits.for_workflow(self._attempt, wait, id, timeout=_checked_timeout(timeout))
        if end["state"] != RunState.COMPLETED:
            raise AwaitedTaskFailed(id, end["state"], end["error"])
        return end["output"] or {}

    def submit_and_wait(
        self, task: TaskRef, payload: Payload | dict[str, Any], *, timeout: float | None = None
    ) -> dict[str, Any] | None:
        """Submit another task once, however often this one is started, and wait for its end as `wait_for_task`.

        Raises as `TaskManager.submit` as well. A cancel of this task does not cancel the other one.
        """
        self._waits["submitted"] += 1
        id = _short(f"{self.id}:submitted-{self._waits['submitted']}")
        self._platform.tasks.submit(task, payload, id=id)
        return self.wait_for_task(id, timeout=timeout)

    def _wait_name(self, what: str) -> str:
        """The name of a wait: what the task waits for, and how often it has come to such a wait in this attempt."""
        self._waits[what] += 1
        return _short(f"{what} #{self._waits[what]}")

    def report_rest(self) -> None:
        """Record the last progress report and the last output of the attempt, if they still wait."""
        if self._output is not None:
            self._output.close()
        last = self._reports.take_waiting()
        if last is not None:
            with suppress(PlatformError):  # the outcome counts
                self._platform.attempts.report(self._attempt, EventKind.PROGRESS, last)


def _short(name: str) -> str:
    """The name, or a digest of it if it is too long to be stored."""
    return name if len(name) <= NAME_LIMIT else hashlib.sha256(name.encode()).hexdigest()


def _checked_seconds(seconds: float) -> float:
    if not math.isfinite(seconds):
        raise ValueError("A wait takes a finite number of seconds.")
    return max(0.0, seconds)


def _checked_timeout(timeout: float | None) -> float | None:
    return None if timeout is None else _checked_seconds(timeout)


_running: ContextVar[Context | None] = ContextVar("laneway_running_task", default=None)


@contextmanager
def running(context: Context) -> Generator[None]:
    """While the block runs, this is the running task of the thread."""
    token = _running.set(context)
    try:
        yield
    finally:
        _running.reset(token)


def running_task() -> Context | None:
    """The running task of this thread; None outside of a task."""
    return _running.get()
