"""`@task` and `PlatformTask`: how a task is declared, and what happens around each run of it.

    message ─► start attempt ─► run the function ─► outcome ─► result ─► finish attempt ─► Celery result

A watchdog can interrupt the function while it runs. Celery does acknowledgements, results and events as always.
`execution/attempts.py` stores the attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NoReturn, TypeVar, cast

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Ignore, Reject
from pydantic import BaseModel

from laneway.engine import EventKind
from laneway.platform.errors import InvalidPayload, PlatformError, TaskCancelled, TaskSnoozed, TimeLimitExceeded
from laneway.platform.execution.attempts import DeliveredTask, with_message_options
from laneway.platform.execution.celery_results import TaskFailed, failure_meta
from laneway.platform.execution.declaration import checked_aliases, checked_delays, checked_retries, payload_type
from laneway.platform.execution.ledger_attempts import LOST_ATTEMPT_HEADER
from laneway.platform.execution.local_run import run_eagerly
from laneway.platform.execution.outcomes import (
    Attempt,
    AttemptResult,
    AttemptSignal,
    Completed,
    Outcome,
    Raised,
    Skip,
    Snoozed,
    Stopped,
)
from laneway.platform.execution.progress import ProgressReports
from laneway.platform.execution.shutdown import is_shutting_down
from laneway.platform.execution.versions import check_version
from laneway.platform.history.adoption import payload_of_call
from laneway.platform.logging import bind, capture, logger, unbind_all
from laneway.platform.platform import Platform, current_platform, known_platform
from laneway.platform.queues import Priority
from laneway.platform.registry import TaskSpec, registry
from laneway.platform.submission.acceptance import validated
from laneway.schemas.task import FAILURES, TaskState

log = logger(__name__)
Item = TypeVar("Item")

REDELIVERY_SECONDS = 5.0
"""Delay of a message that cannot be handled now: the broker or database is unreachable, or another worker runs it."""
LOG_LINES = 200
"""Log lines of one attempt that become events of the task."""


class PlatformTask(Task):
    """A running task, as its function gets it in `self`. Every task that `@task` declares is one.

        @task(queue="imports", retries=5)
        def import_rows(self: PlatformTask, payload: Import) -> dict[str, int]:
            rows = self.step("fetch", fetch, payload.url)       # runs once, also if a later attempt repeats the task
            for row in self.loop("store", rows):                # resumes at the first unfinished row
                store(row)
                self.progress(50, "storing")                    # stops the task here if somebody cancelled it
            return {"rows": len(rows)}

    What the function does decides how the task continues:

    | the function | the task |
    |---|---|
    | returns None, a dict or a pydantic model | is completed; the result is stored as JSON of at most 1 MB |
    | raises an error that a retry may help | runs again after a delay, `retries` times, and then is a dead letter |
    | raises an error that a retry cannot help (PermanentError, ValueError, TypeError, …) | fails |
    | calls `self.snooze(seconds)` | runs again after that time; the attempt does not count |
    | does not catch TaskCancelled | is cancelled |

    A crash at any point repeats the attempt. So effects must be safe to repeat: store them under `self.id`.
    """

    abstract = True
    Request = "laneway.platform.execution.request:PlatformRequest"
    typing = False
    max_retries = None  # no limit by Celery's own count, which includes deliveries that were postponed
    throws = (TaskFailed,)  # otherwise Celery logs a traceback that only shows this module
    spec: TaskSpec
    work: Callable[..., BaseModel | dict[str, Any] | None]

    @property
    def platform(self) -> Platform:
        """The platform of this process: submit other tasks with `self.platform.tasks.submit(...)`."""
        return current_platform()

    @property
    def id(self) -> str:
        """The id of the running task. It stays the same in every attempt."""
        return self.request.id

    @property
    def attempt(self) -> int:
        """The number of this attempt: 1 for the first one, 2 for the first retry.

        It does not grow after a snooze, and starts at 1 again after a retry by hand.
        """
        return self._attempt.number

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
        if self.platform.attempts.report(self._attempt, EventKind.PROGRESS, report) is not AttemptSignal.CONTINUE:
            raise TaskCancelled

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled when the task was cancelled, or when another worker has taken it over.

        Call it in long work that reports no progress. Raises BrokerUnavailable (without the delivery engine:
        DatabaseUnavailable).
        """
        if self._attempt.cancel_requested:
            raise TaskCancelled
        if self.platform.attempts.check_cancelled([self._attempt])[0] is not AttemptSignal.CONTINUE:
            raise TaskCancelled

    def snooze(self, seconds: float, reason: str = "") -> NoReturn:
        """End this attempt, and run the task again from the beginning after `seconds` (0 to 366 days).

        That is no failure, and the attempt does not count as a retry. `reason` is shown in the status. This raises
        TaskSnoozed: do not catch it.
        """
        raise TaskSnoozed(seconds, reason)

    def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `work(*args, **kwargs)` once and store its result; a later attempt gets the stored result instead.

        `name`: 1 to 155 characters, unique in the task. The result is returned as it is read back from JSON: a tuple
        becomes a list. After a crash between the call and the storing, the call is repeated.

        Raises TaskCancelled as `raise_if_cancelled` does, StepTooLarge for more than 1,000,000 characters of JSON,
        TypeError or ValueError for a result that is not JSON, PermanentError for an unusable name, DatabaseUnavailable,
        and whatever `work` raises.
        """
        self.raise_if_cancelled()
        return self.platform.steps.run_once(self._attempt, name, lambda: work(*args, **kwargs))

    def loop(self, name: str, items: Sequence[Item]) -> Iterator[Item]:
        """Iterate over the items that no earlier attempt has finished.

        The number of finished items is stored after each one, under `name` (1 to 155 characters, unique in the task).
        So `items` must be the same in every attempt, in the same order. A crash repeats the item that was running.

        When the worker shuts down, the loop stops at the next item: the task is snoozed for 0 s, and continues on
        another worker. Raises TaskCancelled, PermanentError for an unusable name, and DatabaseUnavailable.
        """
        first = self.platform.steps.finished_items(self._attempt, name)
        for index in range(first, len(items)):
            self.raise_if_cancelled()
            if is_shutting_down():
                raise TaskSnoozed(0, "the worker shuts down")
            yield items[index]
            self.platform.steps.save_finished_items(self._attempt, name, index + 1)

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Run one attempt. Celery calls this for each delivered message."""
        if self.request.is_eager:
            return self._run_eagerly(payload_of_call(self.name, args, kwargs))
        unbind_all()
        bind(task_id=self.id, conversation_id=_short_text(kwargs.get("conversation_id")))
        attempt = self._start_attempt(args, kwargs)
        bind(request_id=attempt.request_id)
        outcome = self.work_on(attempt)
        result = self.platform.attempts.policy.decide(attempt, outcome, schedule=self.spec.delays)
        try:
            is_stored = self.platform.attempts.finish(attempt, result)
        except PlatformError as error:
            self._put_off(str(error), lost_attempt=attempt.number)
        self._log_end(attempt, outcome, result if is_stored else None)
        return self._report_to_celery(outcome, result if is_stored else None)

    def _run_eagerly(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Run all attempts now, without servers: for `apply()` and `task_always_eager`. Raises TaskFailed."""
        done = run_eagerly(self, payload, id=self.id, behind=known_platform())
        if done.state is TaskState.COMPLETED:
            return done.result
        last = done.attempts[-1].result
        raise TaskFailed(last.error_type or "Cancelled", last.error or "stopped on request")

    @property
    def _attempt(self) -> Attempt:
        return self.request.laneway_attempt

    @property
    def _reports(self) -> ProgressReports:
        return self.request.laneway_progress

    def _report_last_progress(self) -> None:
        """Record the last report of the attempt, if it still waits: the status shows how far the task came."""
        last = self._reports.take_waiting()
        if last is not None:
            with suppress(PlatformError):  # the outcome counts
                self.platform.attempts.report(self._attempt, EventKind.PROGRESS, last)

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
        check_version(self.spec, payload, headers)
        delivered = DeliveredTask(
            task_id=self.id,
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
        return started

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
        self.request.laneway_attempt, self.request.laneway_progress = attempt, ProgressReports()
        try:
            with (
                self.platform.cancellation_watchdog.watch(attempt),
                capture(self._log_recorder(attempt), lines=LOG_LINES),
            ):
                payload = validated(self.spec, attempt.payload)
                return Completed(_as_dict(self.work(self, payload)))
        except TaskCancelled:
            return Stopped("interrupted" if attempt.interrupted else "cooperative")
        except TaskSnoozed as snooze:
            return Snoozed(snooze.delay, snooze.reason)
        except SoftTimeLimitExceeded:
            return Raised(TimeLimitExceeded(self._time_limit))
        except Exception as error:  # noqa: BLE001  whatever a task raises becomes an outcome
            return Raised(error)
        finally:
            self._report_last_progress()

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


def task(
    *,
    queue: str,
    name: str | None = None,
    key: str | None = None,
    priority: Priority = Priority.NORMAL,
    retries: int | None = None,
    delays: Sequence[float] | None = None,
    on_failure: str | None = None,
    role: str | None = None,
    aliases: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], PlatformTask]:
    """Declare a function as a task: workers run it, and callers submit it by its name.

        class Greeting(Payload):
            name: str

        @task(queue="mail", retries=3)
        def greet(self: PlatformTask, payload: Greeting) -> dict[str, str]:
            return {"text": f"Hello, {payload.name}!"}

    The function has two parameters. The first one is the running task (`PlatformTask`), by convention called `self`.
    The second one is the payload. Submissions are validated by its annotation, a subclass of `laneway.Payload`.
    Positional arguments of a Celery call are its first fields, also the result that a chain or a chord passes on.

    `queue`: a declared queue. `name`: default: the function's name. `priority`: of the task within its queue.
    `key`: a field of the payload; tasks with the same value run one at a time, in the order of their submission.
    `retries`: how often a failed task runs again; default: TASK_MAX_RETRIES.
    `delays`: seconds before each retry, the last one repeated; default: exponential backoff from TASK_RETRY_DELAY.
    `on_failure`: name of the task that is submitted, with `EndedTask`, when this one ends without being completed.
    `role`: the purpose for which the platform itself submits the task, if there is one.
    `aliases`: earlier names of the task; what was sent, stored or scheduled under them is run by this one.

    Raises BadTask, which names the mistake, when the declaration cannot work.
    """

    def register(work: Callable[..., Any]) -> PlatformTask:
        own = name or work.__name__
        options = {"queue": queue, "key": key, "priority": priority, "on_failure": on_failure, "role": role}
        earlier = checked_aliases(aliases, task=own)
        return _register(work, name=own, retries=retries, delays=delays, aliases=earlier, **options)

    return register


def _register(
    work: Callable[..., Any], *, name: str, retries: int | None, delays: Sequence[float] | None, **options: Any
) -> PlatformTask:
    spec = TaskSpec(
        name=name,
        payload=payload_type(work, task=name),
        max_retries=checked_retries(retries, task=name),
        delays=checked_delays(delays, task=name),
        **options,
    )
    attributes = {
        "name": name,
        "spec": spec,
        "work": staticmethod(work),
        "__doc__": work.__doc__,
        "__module__": work.__module__,
    }
    task_class = cast("type[PlatformTask]", type(work.__name__, (PlatformTask,), attributes))
    instance = task_class()
    registry.add(spec, instance, source=f"{work.__module__}.{work.__qualname__}")
    return instance


def _as_dict(result: BaseModel | dict[str, Any] | None) -> dict[str, Any] | None:
    return result.model_dump(mode="json") if isinstance(result, BaseModel) else result


def _error_text(outcome: Outcome) -> str | None:
    if not isinstance(outcome, Raised):
        return None
    kind = "" if isinstance(outcome.error, InvalidPayload) else f"{type(outcome.error).__name__}: "
    return f"{kind}{outcome.error}"[:500]


def _short_text(value: Any) -> str | None:
    return value[:155] if isinstance(value, str) else None
