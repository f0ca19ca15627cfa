"""The errors of the platform. Each class has an HTTP status and says whether a retry may help."""

from __future__ import annotations

from typing import ClassVar

from laneway._suggestion import suggest
from laneway.engine.errors import LanewayError


class PlatformError(LanewayError, init=False):
    """Base of every error that the platform raises on purpose."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before the next try; None when the error does not say."""
        return None


class PermanentError(PlatformError, init=False):
    """Doing the same again would fail the same way."""

    status, title = 422, "The work cannot be done"


class RetryableError(PlatformError, init=False):
    """Doing the same again later may work."""

    status, retryable, title = 503, True, "Temporarily unavailable"


class ConfigError(PlatformError, init=False):
    """The configuration is incomplete or contradicts itself."""

    title = "Configuration error"


class NotConfigured(PlatformError):
    """The feature needs a setting that is empty."""

    status, title = 503, "Not configured"

    template = "{feature} is not configured: set {setting}."
    feature: str
    setting: str


class InvalidPayload(PermanentError):
    """The payload does not match the payload type of the task."""

    title = "Invalid payload"

    task: str
    problems: list[str]

    def __str__(self) -> str:
        return f"The payload of {self.task} is not valid: " + "; ".join(self.problems)


class PayloadTooLarge(PermanentError):
    """The payload is larger than the platform stores."""

    status, title = 413, "Payload too large"

    template = "The payload of {task} has {size} bytes of JSON, more than {limit}: store it elsewhere."
    task: str
    size: int
    limit: int


class UnknownTask(PlatformError):
    """No task has this id."""

    status, title = 404, "Unknown task"

    template = "No task {id!r} is known here."
    id: str


class UnknownTaskType(PlatformError):
    """No task is registered under this name."""

    status, title = 404, "Unknown task type"
    name: str
    known: list[str]

    def __str__(self) -> str:
        return f"No task is registered as {suggest(self.name, self.known)}; registered are {', '.join(self.known)}."


class UnknownQueue(PermanentError):
    """The queue does not exist."""

    title = "Unknown queue"

    queue: str
    known: list[str]

    def __str__(self) -> str:
        return f"There is no queue {suggest(self.queue, self.known)}; there are {', '.join(self.known)}."


class TaskExpired(PlatformError):
    """The task finished so long ago that callers no longer get its status."""

    status, title = 410, "Task status expired"

    template = "Task {id!r} finished more than {hours} hours ago; its status has expired."
    id: str
    hours: int


class WrongState(PlatformError):
    """The state of the task does not allow this action."""

    status, title = 409, "Not possible in this state"

    template = "Task {id!r} is {state}; it cannot be {action}."
    id: str
    state: str
    action: str


class Conflict(PlatformError, init=False):
    """The id was used before for another task or payload."""

    status, title = 409, "Conflict"


class NotFound(PlatformError):
    """Nothing has this id."""

    status, title = 404, "Not found"

    template = "No {kind} {id!r} is known here."
    kind: str
    id: str


class DuplicateTask(PlatformError):
    """Another task holds the uniqueness key."""

    status, title = 409, "Duplicate task"

    template = "The same work is already queued or running as task {existing!r}."
    existing: str


class QueueFull(RetryableError):
    """The queue holds as many waiting tasks as its limit allows."""

    status, title = 429, "Queue full"

    template = "The queue {queue!r} is full ({limit} tasks waiting, see MAX_QUEUE_SIZE)."
    queue: str
    limit: int

    @property
    def retry_after(self) -> float:
        return 10.0


class HistoryBehind(RetryableError):
    """Too many events are not recorded yet. No further task is accepted, because its history could be lost."""

    title = "History behind"

    template = "{unread} events of the queue {queue!r} are not recorded yet: check that the database is available."
    queue: str
    unread: int

    @property
    def retry_after(self) -> float:
        return 10.0


class NewerQueue(RetryableError):
    """A newer version of Laneway has changed the queue in the broker. This version leaves the queue alone."""

    title = "Newer queue"

    template = "The queue {queue!r} is used by a newer version of Laneway (format {format}): upgrade this process."
    queue: str
    format: int

    @property
    def retry_after(self) -> float:
        return 60.0


QUEUE_REFUSALS = (QueueFull, HistoryBehind, NewerQueue)
"""Errors of the broker after which it would refuse the other tasks of the queue as well."""


class BrokerUnavailable(RetryableError):
    """The broker cannot be reached, or it did not accept the message."""

    title = "Broker unavailable"

    template = "The broker cannot be reached: {reason}"
    reason: str

    @property
    def retry_after(self) -> float:
        return 5.0


class BrokerRefuses(BrokerUnavailable):
    """The broker is there and takes no commands now: it cannot save, lacks memory or replicas, loads or is busy."""

    title = "Broker refuses"
    template = "The broker takes no commands now: {reason}"


class BrokerLoginRefused(BrokerUnavailable):
    """The broker refuses the user or the password."""

    title = "Broker login refused"

    template = "The broker refuses the login: {reason}. Check the user and password in REDIS_URL or CELERY_BROKER_URL."


class TooLate(BrokerUnavailable):
    """The sender's claim on the row of the task had expired when the broker got the message. Nothing is queued."""

    template = "The broker refused the message: {reason}"


class Unsendable(PermanentError):
    """No message can be built from the row of the task, for example because another version wrote the row."""

    title = "Unsendable"

    template = "No message can be built for task {task_id!r}: {reason}"
    task_id: str
    reason: str


class NotDurable(RetryableError):
    """The task is accepted, but the broker did not confirm the requested durability in time. Its row stays."""

    title = "Durability not confirmed"

    template = "The broker did not confirm durability {durability!r} in time; a repeat with the same id is safe."
    durability: str

    @property
    def retry_after(self) -> float:
        return 1.0


class Unsupported(PermanentError):
    """The broker in use does not have this feature."""

    title = "Not supported by this broker"

    template = "This broker does not support {feature}: {broker}"
    feature: str
    broker: str


class DatabaseUnavailable(RetryableError):
    """The database did not answer."""

    title = "Database unavailable"

    template = "The database cannot be reached: {reason}"
    reason: str

    @property
    def retry_after(self) -> float:
        return 5.0


class DatabaseBusy(DatabaseUnavailable):
    """Another program, or another writer of this process, held the database for as long as this one could wait."""

    title = "Database busy"

    template = "The database is held by another writer: {reason}"


class Overloaded(RetryableError):
    """All threads for requests of this kind were busy for as long as a request may wait."""

    title = "Overloaded"

    template = "No thread was free for this request within {seconds:g} s. Nothing was done; try again later."
    seconds: float

    @property
    def retry_after(self) -> float:
        return 5.0


class UpstreamError(RetryableError):
    """A remote service failed in a way that may be temporary."""

    status, title = 502, "Upstream failed"

    template = "{service} failed: {reason}"
    service: str
    reason: str
    after: float | None = None

    @property
    def retry_after(self) -> float | None:
        return self.after


class UpstreamRefused(PermanentError):
    """A remote service refused the request permanently."""

    title = "Upstream refused"

    template = "{service} refused: {reason}"
    service: str
    reason: str


class BadSignature(PlatformError):
    """The signature of the request does not match its sender."""

    status, title = 401, "Bad signature"

    template = "The {source} request was refused: {reason}"
    source: str
    reason: str


class TimeLimitExceeded(RetryableError):
    """The task ran longer than its time limit."""

    title = "Time limit exceeded"

    template = "The task ran longer than its limit of {seconds:g} s."
    seconds: float


class ResultTooLarge(PermanentError):
    """The result of a task is larger than the platform stores."""

    title = "Result too large"

    template = "The result has {size} characters of JSON, more than {limit}: store it elsewhere."
    size: int
    limit: int


class StepTooLarge(PermanentError):
    """The result of a step is larger than the platform stores."""

    title = "Step too large"

    template = "The result of step {name!r} has {size} characters of JSON, more than {limit}."
    name: str
    size: int
    limit: int


class TaskSnoozed(PlatformError):
    """The task asked to run again later. This is not a failure."""

    title = "Snoozed"

    delay: float
    reason: str = ""

    def __str__(self) -> str:
        return self.reason or f"continues in {self.delay:g} s"


class WorkerLost(RetryableError):
    """The worker, or its process that ran the task, died or lost its lease while it ran the task."""

    title = "Worker lost"

    worker: str
    last_of: int = 0
    """The number of attempts, if this one was the last."""
    how: str = ""
    """How the process ended, if that is known."""
    worker_ended: str = ""
    """How the whole worker ended, if whoever started it has said so."""

    def __str__(self) -> str:
        if self.worker_ended:
            return f"The worker {self.worker} {self.worker_ended} while it ran the task."
        if self.how:
            return f"The process of the worker {self.worker} that ran the task {self.how}."
        if self.last_of:
            return f"The worker died or stalled while it ran the last of {self.last_of} attempts."
        return f"The worker {self.worker} died or stalled while it ran the task."


class TaskCancelled(BaseException):
    """Raised in a task that was asked to stop. It is no Exception: `except Exception` in a task must not catch it."""
