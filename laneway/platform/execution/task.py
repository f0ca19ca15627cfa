"""PlatformTask: what happens around each task, in one place.

    message ─► begin ─► run (watched, interruptible) ─► outcome, a value ─► ruling ─► concluded ─► told to Celery

Celery keeps the broker's side (acknowledge, results, events); `app/services/executions.py` the attempts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from time import monotonic
from typing import Any, NoReturn, TypeVar, cast, get_type_hints

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Ignore, Reject
from pydantic import BaseModel

from laneway.engine import Kind
from laneway.platform.errors import InvalidPayload, PlatformError, TaskCancelled, TaskSnoozed, TimeLimitExceeded
from laneway.platform.execution.attempts import DeliveredTask, as_asked
from laneway.platform.execution.celery_results import TaskFailed, as_celery_has_it
from laneway.platform.execution.ledger_attempts import LOST_ATTEMPT_HEADER
from laneway.platform.execution.outcomes import (
    Attempt,
    AttemptResult,
    Completed,
    Outcome,
    Raised,
    Skip,
    Snoozed,
    Stopped,
)
from laneway.platform.execution.shutdown import shutting_down
from laneway.platform.history.adoption import called_with
from laneway.platform.logging import bind, capture, logger, unbind_all
from laneway.platform.payload import Payload
from laneway.platform.platform import Platform, current_platform
from laneway.platform.queues import Priority
from laneway.platform.registry import BadTask, TaskSpec, registry
from laneway.platform.schemas.task import FAILURES, TaskState
from laneway.platform.submission.acceptance import validated

log = logger(__name__)
Item = TypeVar("Item")

AGAIN_AFTER = 5.0
"""Seconds until a message is delivered again that cannot be dealt with now: the ledger is away, or the task runs."""
PROGRESS_EVERY = 0.25
"""Seconds between stored progress reports; the first and the last are always stored."""
LOG_LINES = 200
"""Log lines of one attempt that go into its story."""


class PlatformTask(Task):
    """Base of every task; `spec` says what it is, `work` does it."""

    abstract = True
    Request = "laneway.platform.execution.request:PlatformRequest"
    typing = False
    max_retries = None  # Celery's own count, of deliveries that were put off
    throws = (TaskFailed,)  # or Celery logs it as unexpected, with a traceback that shows nothing but this module
    spec: TaskSpec
    work: Callable[..., BaseModel | dict[str, Any] | None]

    @cached_property
    def services(self) -> Platform:
        """The platform of this process."""
        return current_platform()

    @property
    def id(self) -> str:
        """The id of the running task."""
        return self.request.id

    @property
    def attempt(self) -> int:
        """How often the running task has been started, this time included."""
        return self._running.number

    def progress(self, percent: float, message: str | None = None, **counters: float) -> None:
        """Say how far the task is (0-100), what it does, and count; raises TaskCancelled when it was asked to stop."""
        last, at = getattr(self.request, "laneway_progress", (0, -PROGRESS_EVERY))
        share = max(last, min(100, int(percent)))
        if share < 100 and monotonic() - at < PROGRESS_EVERY:
            return
        self.request.laneway_progress = (share, monotonic())
        said = {"percent": share, "message": message, **({"counters": counters} if counters else {})}
        if self.services.attempts.report(self._running, Kind.PROGRESS, said) is not False:
            raise TaskCancelled

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled when the task was asked to stop, or has been taken over."""
        if self._running.cancel_requested or self.services.attempts.asked_to_stop([self._running])[0] is not False:
            raise TaskCancelled

    def snooze(self, seconds: float, reason: str = "") -> NoReturn:
        """Go on later, from the beginning; that is no failure, and the attempt does not count."""
        raise TaskSnoozed(seconds, reason)

    def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do `work` once: its result (JSON) is kept, and a later attempt gets that instead of doing it again."""
        self.raise_if_cancelled()
        return self.services.steps.once(self._running, name, lambda: work(*args, **kwargs))

    def loop(self, name: str, items: Sequence[Item]) -> Iterator[Item]:
        """The items that no earlier attempt has done; the place is kept behind each.

        When the worker shuts down the loop stops at the next item, and the task goes on elsewhere, uncounted.
        """
        place = self.services.steps.place(self._running, name)
        for number in range(place, len(items)):
            self.raise_if_cancelled()
            if shutting_down():
                raise TaskSnoozed(0, "the worker shuts down")
            yield items[number]
            self.services.steps.advance(self._running, name, number + 1)

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Celery's entry: begin, run, rule, conclude, answer."""
        unbind_all()
        bind(task_id=self.id, conversation_id=_text(kwargs.get("conversation_id")))
        attempt = self._begin(args, kwargs)
        self.request.laneway_attempt = attempt
        bind(request_id=attempt.request_id)
        outcome = self._outcome(attempt)
        ruling = self.services.attempts.rule.decide(attempt, outcome, schedule=self.spec.delays)
        try:
            mine = self.services.attempts.conclude(attempt, ruling)
        except PlatformError as error:
            self._later(str(error), lost_attempt=attempt.number)
        tell = log.warning if mine and ruling.state in FAILURES else log.info
        tell(
            "task ended",
            task=self.name,
            state=ruling.state if mine else "lost its lease",
            attempt=attempt.number,
            seconds=round(monotonic() - self.request.laneway_began, 3),
            error=_told(outcome),
        )
        return self._answer(ruling if mine else None, outcome)

    @property
    def _running(self) -> Attempt:
        return self.request.laneway_attempt

    @property
    def _time_limit(self) -> float:
        """The task's own, or the platform's, in seconds."""
        _, own = self.request.timelimit or (None, None)
        return float(own or self.services.settings.tasks.soft_time_limit)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Attempt:
        self.request.laneway_began = monotonic()
        delivered = DeliveredTask(
            task_id=self.id,
            spec=as_asked(self.spec, self.request.headers or {}),
            queue=str((self.request.delivery_info or {}).get("routing_key") or ""),
            payload=called_with(args, kwargs),
            headers=self.request.headers or {},
            worker=str(self.request.hostname),
        )
        try:
            begun = self.services.attempts.begin(delivered)
        except PlatformError as error:
            self._later(str(error))
        if isinstance(begun, Skip):
            if begun.busy:
                self._later(begun.reason)
            log.info("delivery dropped", task=self.name, reason=begun.reason)
            raise Ignore
        return begun

    def _later(self, why: str, *, lost_attempt: int = 0) -> NoReturn:
        """Have the message delivered again in a while; it is no attempt, and Celery's count of retries is no limit."""
        log.warning("delivered again later", task=self.name, seconds=AGAIN_AFTER, reason=why)
        if self.services.broker.engine is not None:  # there it keeps its place; a further one would leave it unrecorded
            raise Reject(why, requeue=True)
        given = self.request.headers or {}
        headers = {**given, LOST_ATTEMPT_HEADER: lost_attempt or given.get(LOST_ATTEMPT_HEADER, 0)}
        try:
            raise self.retry(countdown=AGAIN_AFTER, headers=headers)
        except Reject as error:  # the broker is away, too; as Celery has it, the message would be buried
            raise Reject(error.reason, requeue=True) from error

    def _outcome(self, attempt: Attempt) -> Outcome:
        try:
            with self.services.cancellation_watchdog.holding(attempt), capture(self._tell(attempt), lines=LOG_LINES):
                payload = validated(self.spec, attempt.payload)
                return Completed(_plain(self.work(self, payload)))
        except TaskCancelled:
            return Stopped("interrupted" if attempt.interrupted else "cooperative")
        except TaskSnoozed as snooze:
            return Snoozed(snooze.delay, snooze.reason)
        except SoftTimeLimitExceeded:
            return Raised(TimeLimitExceeded(self._time_limit))
        except Exception as error:  # noqa: BLE001  whatever a task raises becomes an outcome
            return Raised(error)

    def _tell(self, attempt: Attempt) -> Callable[[dict[str, Any]], None]:
        """Puts log lines of the running task into its story."""

        def tell(line: dict[str, Any]) -> None:
            with suppress(PlatformError):  # it is in the log all the same
                self.services.attempts.report(attempt, Kind.LOG, line)

        return tell

    def _answer(self, ruling: AttemptResult | None, outcome: Outcome) -> dict[str, Any] | None:
        if isinstance(outcome, Completed) and ruling is not None and ruling.state is TaskState.COMPLETED:
            return outcome.result
        state = ruling.state if ruling else None
        told = TaskFailed(ruling.error_type or "Cancelled", ruling.error or "stopped on request") if ruling else None
        if told and state in FAILURES:
            raise told from None
        if told and state is TaskState.SCHEDULED:
            self.update_state(state="RETRY", meta=as_celery_has_it(told))
            self.send_event("task-retried", exception=repr(told), traceback="")
        if told and state is TaskState.CANCELLED:
            self.update_state(state="REVOKED", meta=as_celery_has_it(told))
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
) -> Callable[[Callable[..., Any]], PlatformTask]:
    """Register a function `(self, payload)` as a task; its payload is the type of its second parameter.

    `name`: the function's own name, if not given. The other arguments are the fields of `TaskSpec`; `retries`: None
    takes TASK_MAX_RETRIES; `delays`: seconds before each retry. Raises BadTask for a declaration that cannot work.
    """

    def register(work: Callable[..., Any]) -> PlatformTask:
        known = name or work.__name__
        spec = TaskSpec(
            name=known,
            queue=queue,
            payload=payload_of(work, task=known),
            key=key,
            priority=priority,
            max_retries=retries,
            delays=None if delays is None else tuple(delays),
            on_failure=on_failure,
            role=role,
        )
        attributes = {
            "name": known,
            "spec": spec,
            "work": staticmethod(work),
            "__doc__": work.__doc__,
            "__module__": work.__module__,
        }
        kind = cast("type[PlatformTask]", type(work.__name__, (PlatformTask,), attributes))
        made = kind()
        registry.add(spec, made, source=f"{work.__module__}.{work.__qualname__}")
        return made

    return register


def payload_of(work: Callable[..., Any], *, task: str) -> type[Payload]:
    """The type of a task function's second parameter. Raises BadTask when there is none that can be read."""
    parameters = list(inspect.signature(work).parameters)
    if len(parameters) != 2:
        raise BadTask(task, "its function takes two parameters: the running task and the payload.")
    try:
        hints = get_type_hints(work)
    except NameError as error:
        raise BadTask(task, f"the type of its payload cannot be read ({error}); import it at run time.") from error
    if parameters[1] not in hints:
        raise BadTask(task, f"its parameter {parameters[1]!r} has no type; annotate it with a laneway.Payload.")
    return hints[parameters[1]]


def _plain(result: BaseModel | dict[str, Any] | None) -> dict[str, Any] | None:
    return result.model_dump(mode="json") if isinstance(result, BaseModel) else result


def _told(outcome: Outcome) -> str | None:
    if not isinstance(outcome, Raised):
        return None
    kind = "" if isinstance(outcome.error, InvalidPayload) else f"{type(outcome.error).__name__}: "
    return f"{kind}{outcome.error}"[:500]


def _text(value: Any) -> str | None:
    return value[:155] if isinstance(value, str) else None
