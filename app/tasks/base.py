"""PlatformTask: what happens around each task, in one place.

    message ─► claim ─► run (lease kept, interruptible) ─► outcome, a value ─► settled in the ledger ─► told to Celery

Celery keeps the broker's side (acknowledge, results, events); the ledger decides what runs and what comes next.
"""

# The untyped edge of Celery and kombu.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false, reportPrivateUsage=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from time import monotonic
from typing import Any, NoReturn, cast

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Ignore, Reject
from pydantic import BaseModel

from app.core.catalog import TaskSpec
from app.core.celery_app import celery_app
from app.core.errors import InvalidPayload, PermanentError, PlatformError, TaskCancelled, TimeLimitExceeded
from app.core.logging import bind, logger, unbind_all
from app.db.models import TaskRun
from app.schemas.task import State
from app.services.container import Services, services
from app.services.executions import Completed, Outcome, Raised, Refused, Stopped
from app.services.task_manager import adopted_row, validated

log = logger(__name__)

LOST_ATTEMPT_HEADER = "laneway-lost-attempt"
AGAIN_AFTER = 5.0
"""Seconds until a message is delivered again that cannot be dealt with now: the ledger is away, or the task runs."""
PROGRESS_EVERY = 0.25
"""Seconds between stored progress reports; the first and the last are always stored."""


class TaskFailed(PermanentError):
    """How a failure is told to Celery: its kind and message, so that it survives pickling."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class PlatformTask(Task):  # pyright: ignore[reportMissingTypeArgument, reportUntypedBaseClass]
    """Base of every task; `spec` says what it is, `work` does it."""

    abstract = True
    typing = False
    max_retries = None  # Celery's own count, of deliveries that were put off
    spec: TaskSpec
    work: Callable[..., BaseModel | dict[str, Any] | None]
    schedule: tuple[float, ...] | None = None

    @cached_property
    def services(self) -> Services:
        """The services of this process."""
        return services()

    @property
    def id(self) -> str:
        """The id of the running task."""
        return self.request.id

    @property
    def attempt(self) -> int:
        """How often the running task has been started, this time included."""
        return self._running.attempts

    def progress(self, percent: float, message: str | None = None) -> None:
        """Say how far the task is (0-100) and what it does; raises TaskCancelled when it was asked to stop."""
        last, at = getattr(self.request, "laneway_progress", (0, -PROGRESS_EVERY))
        share = max(last, min(100, int(percent)))
        if share < 100 and monotonic() - at < PROGRESS_EVERY:
            return
        self.request.laneway_progress = (share, monotonic())
        asked_to_stop = self.services.executions.progress(self._running, percent=share, message=message)
        if asked_to_stop is not False:
            raise TaskCancelled

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Celery's entry: claim, run, settle, answer."""
        try:
            self._enter(args, kwargs)
            claimed = self._claim()
        except PlatformError as error:
            self._later(str(error))
        if isinstance(claimed, Refused):
            if claimed.busy:
                self._later(claimed.reason)
            log.info("delivery dropped", task=self.name, reason=claimed.reason)
            raise Ignore
        self.request.laneway_run = claimed
        started = monotonic()
        outcome = self._outcome(claimed)
        policy = self.services.executions.policy(max_retries=claimed.max_retries, schedule=self.schedule)
        try:
            state = self.services.executions.settle(claimed, outcome, policy=policy)
        except PlatformError as error:
            self._later(str(error), lost_attempt=claimed.attempts)
        log.info("task ended", task=self.name, state=state or "lost its lease", attempt=claimed.attempts,
                 seconds=round(monotonic() - started, 3), error=_told(outcome))  # fmt: skip
        return self._answer(state, outcome)

    def _claim(self) -> TaskRun | Refused:
        return self.services.executions.claim(
            self.id, worker=str(self.request.hostname), lost_attempt=self._lost_attempt
        )

    @property
    def _lost_attempt(self) -> int:
        """The attempt that an earlier delivery of this message could not settle, or 0."""
        lost: object = (self.request.headers or {}).get(LOST_ATTEMPT_HEADER)
        return lost if isinstance(lost, int) else 0

    def _later(self, why: str, *, lost_attempt: int = 0) -> NoReturn:
        """Have the message delivered again in a while; it is no attempt, and Celery's count of retries is no limit."""
        log.warning("delivered again later", task=self.name, seconds=AGAIN_AFTER, reason=why)
        headers = {**(self.request.headers or {}), LOST_ATTEMPT_HEADER: lost_attempt or self._lost_attempt}
        try:
            raise self.retry(countdown=AGAIN_AFTER, headers=headers)
        except Reject as error:  # the broker is away, too; as Celery has it, the message would be buried
            raise Reject(error.reason, requeue=True) from error

    @property
    def _running(self) -> TaskRun:
        return self.request.laneway_run

    def _enter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        unbind_all()
        bind(task_id=self.id, conversation_id=_text(kwargs.get("conversation_id")))
        from_manager = (self.request.headers or {}).get("laneway-ledger")
        if not from_manager and not self.services.executions.known(self.id):
            payload = kwargs if not args else {"positional arguments": len(args)}
            self.services.executions.adopt(adopted_row(self.spec, payload, self.id, self.services.settings.tasks))

    def _outcome(self, run: TaskRun) -> Outcome:
        bind(request_id=run.request_id)
        try:
            with self.services.heart.holding(run):
                payload = validated(self.spec, run.payload)
                return Completed(_plain(self.work(self, payload)))
        except TaskCancelled:
            return Stopped()
        except SoftTimeLimitExceeded:
            return Raised(TimeLimitExceeded(self.services.settings.tasks.soft_time_limit))
        except Exception as error:  # noqa: BLE001  whatever a task raises becomes an outcome
            return Raised(error)

    def _answer(self, state: State | None, outcome: Outcome) -> dict[str, Any] | None:
        if isinstance(outcome, Completed) and state is not None:
            return outcome.result
        error = outcome.error if isinstance(outcome, Raised) else None
        told = TaskFailed(type(error).__name__, str(error)) if error else TaskFailed("Cancelled", "stopped on request")
        if state in (State.FAILED, State.DEAD_LETTER):
            raise told from None
        if state is State.SCHEDULED:
            self.update_state(state="RETRY", meta=_celery_meta(told))
            self.send_event("task-retried", exception=repr(told), traceback="")
        if state is State.CANCELLED:
            self.update_state(state="REVOKED", meta=_celery_meta(told))
            self.send_event("task-revoked", terminated=True, signum=None, expired=False)
        raise Ignore


def task(spec: TaskSpec, *, schedule: tuple[float, ...] | None = None) -> Callable[[Callable[..., Any]], PlatformTask]:
    """Register a function `(self, payload)` as the task of a catalog entry."""

    def register(work: Callable[..., Any]) -> PlatformTask:
        attributes = {
            "name": spec.name, "spec": spec, "work": staticmethod(work), "schedule": schedule,
            "__doc__": work.__doc__, "__module__": work.__module__,
        }  # fmt: skip
        kind = cast("type[PlatformTask]", type(work.__name__, (PlatformTask,), attributes))
        return cast("PlatformTask", celery_app.register_task(kind()))

    return register


def _plain(result: BaseModel | dict[str, Any] | None) -> dict[str, Any] | None:
    return result.model_dump(mode="json") if isinstance(result, BaseModel) else result


def _celery_meta(error: TaskFailed) -> dict[str, Any]:
    return {"exc_type": "TaskFailed", "exc_message": [error.kind, error.message], "exc_module": __name__}


def _told(outcome: Outcome) -> str | None:
    if not isinstance(outcome, Raised):
        return None
    kind = "" if isinstance(outcome.error, InvalidPayload) else f"{type(outcome.error).__name__}: "
    return f"{kind}{outcome.error}"[:500]


def _text(value: Any) -> str | None:
    return value[:155] if isinstance(value, str) else None
