"""The platform's error tree: each class knows its HTTP status and whether a retry can help."""

from __future__ import annotations

from typing import ClassVar

from laneway.engine.errors import LanewayError


class PlatformError(LanewayError, init=False):
    """Something went wrong that the platform can name."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    @property
    def retry_after(self) -> float | None:
        """Seconds after which another try makes sense, when the error knows."""
        return None


class PermanentError(PlatformError, init=False):
    """Doing the same again would fail the same way."""

    status, title = 422, "The work cannot be done"


class RetryableError(PlatformError, init=False):
    """Doing the same again later may work."""

    status, retryable, title = 503, True, "Temporarily unavailable"


class ConfigError(PlatformError, init=False):
    """The settings are missing something or contradict each other."""

    title = "Configuration error"


class NotConfigured(PlatformError):
    """A feature was asked for whose setting is empty."""

    status, title = 503, "Not configured"

    template = "{feature} is not configured: set {setting}."
    feature: str
    setting: str


class InvalidPayload(PermanentError):
    """A task's payload does not fit its type."""

    title = "Invalid payload"

    task: str
    problems: list[str]

    def __str__(self) -> str:
        return f"The payload of {self.task} is not valid: " + "; ".join(self.problems)


class PayloadTooLarge(PermanentError):
    """A task's payload is larger than is kept."""

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
        return f"No task is registered as {self.name!r}; registered are {', '.join(self.known)}."


class UnknownQueue(PermanentError):
    """There is no such queue."""

    title = "Unknown queue"

    queue: str
    known: list[str]

    def __str__(self) -> str:
        return f"There is no queue {self.queue!r}; there are {', '.join(self.known)}."


class TaskExpired(PlatformError):
    """The task finished so long ago that its status is no longer kept for callers."""

    status, title = 410, "Task status expired"

    template = "Task {id!r} finished more than {hours} hours ago; its status has expired."
    id: str
    hours: int


class WrongState(PlatformError):
    """The task is in a state in which this cannot be done to it."""

    status, title = 409, "Not possible in this state"

    template = "Task {id!r} is {state}; it cannot be {action}."
    id: str
    state: str
    action: str


class Conflict(PlatformError, init=False):
    """The same id was used before for something else."""

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
    """The queue holds as many waiting tasks as it may."""

    status, title = 429, "Queue full"

    template = "The queue {queue!r} is full ({limit} tasks waiting, see MAX_QUEUE_SIZE)."
    queue: str
    limit: int

    @property
    def retry_after(self) -> float:
        return 10.0


class HistoryBehind(RetryableError):
    """So much waits to be recorded that nothing more is accepted: it could not be accounted for."""

    title = "History behind"

    template = "{unread} events of the queue {queue!r} wait to be recorded: is the database there?"
    queue: str
    unread: int

    @property
    def retry_after(self) -> float:
        return 10.0


class BrokerUnavailable(RetryableError):
    """The broker did not take the message."""

    title = "Broker unavailable"

    template = "The broker cannot be reached: {reason}"
    reason: str

    @property
    def retry_after(self) -> float:
        return 5.0


class NotDurable(RetryableError):
    """The task is accepted, but the broker did not confirm in time that its message is as safe as was asked for."""

    title = "Durability not confirmed"

    template = "The broker did not confirm durability {durability!r} in time; a repeat with the same id is safe."
    durability: str

    @property
    def retry_after(self) -> float:
        return 1.0


class Unsupported(PermanentError):
    """The broker in use cannot do this."""

    title = "Not supported by this broker"

    template = "This broker cannot give {what}: {broker}"
    what: str
    broker: str


class DatabaseUnavailable(RetryableError):
    """The database did not answer."""

    title = "Database unavailable"

    template = "The database cannot be reached: {reason}"
    reason: str

    @property
    def retry_after(self) -> float:
        return 5.0


class UpstreamError(RetryableError):
    """A service that we called failed in a way that may pass."""

    status, title = 502, "Upstream failed"

    template = "{service} failed: {reason}"
    service: str
    reason: str
    after: float | None = None

    @property
    def retry_after(self) -> float | None:
        return self.after


class UpstreamRefused(PermanentError):
    """A service that we called refused for good."""

    title = "Upstream refused"

    template = "{service} refused: {reason}"
    service: str
    reason: str


class BadSignature(PlatformError):
    """The request is not signed by whom it says it is from."""

    status, title = 401, "Bad signature"

    template = "The {source} request was refused: {reason}"
    source: str
    reason: str


class TimeLimitExceeded(RetryableError):
    """The task ran longer than it may."""

    title = "Time limit exceeded"

    template = "The task ran longer than its limit of {seconds:g} s."
    seconds: float


class ResultTooLarge(PermanentError):
    """A task returned more than is kept."""

    title = "Result too large"

    template = "The result has {size} characters of JSON, more than {limit}: store it elsewhere."
    size: int
    limit: int


class StepTooLarge(PermanentError):
    """A step returned more than is kept."""

    title = "Step too large"

    template = "The result of step {name!r} has {size} characters of JSON, more than {limit}."
    name: str
    size: int
    limit: int


class TaskSnoozed(PlatformError):
    """A task wants to go on later; no failure."""

    title = "Snoozed"

    delay: float
    reason: str = ""

    def __str__(self) -> str:
        return self.reason or f"to go on in {self.delay:g} s"


class Undeliverable(PermanentError):
    """The broker gave a task's message up and keeps it as a dead letter."""

    title = "Undeliverable"

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"The broker made a dead letter of it: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class WorkerLost(RetryableError):
    """The worker died, or lost its lease, while it ran the task."""

    title = "Worker lost"

    template = "The worker {worker} died or stalled while it ran the task."
    worker: str


class TaskCancelled(BaseException):
    """Raised inside a task that was asked to stop; not an Exception, so that task code does not catch it."""
