"""The platform's error tree: each class knows its HTTP status and whether a retry can help.

`str(error)` is fit for a user. Errors cross process borders pickled, so each one hands its own
arguments to `super().__init__` and builds its sentence in `__str__`.
"""

from __future__ import annotations


class PlatformError(Exception):
    """Something went wrong that the platform can name."""

    status = 500
    retryable = False
    title = "Internal error"

    @property
    def retry_after(self) -> float | None:
        """Seconds after which another try makes sense, when the error knows."""
        return None


class PermanentError(PlatformError):
    """Doing the same again would fail the same way."""

    status, title = 422, "The work cannot be done"


class RetryableError(PlatformError):
    """Doing the same again later may work."""

    status, retryable, title = 503, True, "Temporarily unavailable"


class ConfigError(PlatformError):
    """The settings are missing something or contradict each other."""

    title = "Configuration error"


class NotConfigured(PlatformError):
    """A feature was asked for whose setting is empty."""

    status, title = 503, "Not configured"

    def __init__(self, feature: str, setting: str) -> None:
        super().__init__(feature, setting)
        self.feature, self.setting = feature, setting

    def __str__(self) -> str:
        return f"{self.feature} is not configured: set {self.setting}."


class InvalidPayload(PermanentError):
    """A task's payload does not fit its type."""

    title = "Invalid payload"

    def __init__(self, task: str, problems: list[str]) -> None:
        super().__init__(task, problems)
        self.task, self.problems = task, problems

    def __str__(self) -> str:
        return f"The payload of {self.task} is not valid: " + "; ".join(self.problems)


class PayloadTooLarge(PermanentError):
    """A task's payload is larger than is kept."""

    status, title = 413, "Payload too large"

    def __init__(self, task: str, size: int, limit: int) -> None:
        super().__init__(task, size, limit)
        self.task, self.size, self.limit = task, size, limit

    def __str__(self) -> str:
        return f"The payload of {self.task} has {self.size} bytes of JSON, more than {self.limit}: store it elsewhere."


class UnknownTask(PlatformError):
    """No task has this id."""

    status, title = 404, "Unknown task"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"No task {self.id!r} is known here."


class UnknownTaskType(UnknownTask):
    """No type of task has this name."""

    title = "Unknown type of task"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(name)
        self.args = (name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        return f"There is no type of task {self.name!r}; there are {', '.join(self.known)}."


class UnknownQueue(PermanentError):
    """There is no such queue."""

    title = "Unknown queue"

    def __init__(self, queue: str, known: list[str]) -> None:
        super().__init__(queue, known)
        self.queue, self.known = queue, known

    def __str__(self) -> str:
        return f"There is no queue {self.queue!r}; there are {', '.join(self.known)}."


class TaskExpired(PlatformError):
    """The task finished so long ago that its status is no longer kept for callers."""

    status, title = 410, "Task status expired"

    def __init__(self, id: str, hours: int) -> None:
        super().__init__(id, hours)
        self.id, self.hours = id, hours

    def __str__(self) -> str:
        return f"Task {self.id!r} finished more than {self.hours} hours ago; its status has expired."


class WrongState(PlatformError):
    """The task is in a state in which this cannot be done to it."""

    status, title = 409, "Not possible in this state"

    def __init__(self, id: str, state: str, action: str) -> None:
        super().__init__(id, state, action)
        self.id, self.state, self.action = id, state, action

    def __str__(self) -> str:
        return f"Task {self.id!r} is {self.state}; it cannot be {self.action}."


class Conflict(PlatformError):
    """The same id was used before for something else."""

    status, title = 409, "Conflict"


class NotFound(PlatformError):
    """Nothing has this id."""

    status, title = 404, "Not found"

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(kind, id)
        self.kind, self.id = kind, id

    def __str__(self) -> str:
        return f"No {self.kind} {self.id!r} is known here."


class DuplicateTask(PlatformError):
    """Another task holds the uniqueness key."""

    status, title = 409, "Duplicate task"

    def __init__(self, existing: str) -> None:
        super().__init__(existing)
        self.existing = existing

    def __str__(self) -> str:
        return f"The same work is already queued or running as task {self.existing!r}."


class QueueFull(RetryableError):
    """The queue holds as many waiting tasks as it may."""

    status, title = 429, "Queue full"

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(queue, limit)
        self.queue, self.limit = queue, limit

    def __str__(self) -> str:
        return f"The queue {self.queue!r} is full ({self.limit} tasks waiting, see MAX_QUEUE_SIZE)."

    @property
    def retry_after(self) -> float:
        return 10.0


class HistoryBehind(RetryableError):
    """So much waits to be recorded that nothing more is accepted: it could not be accounted for."""

    title = "History behind"

    def __init__(self, queue: str, unread: int) -> None:
        super().__init__(queue, unread)
        self.queue, self.unread = queue, unread

    def __str__(self) -> str:
        return f"{self.unread} events of the queue {self.queue!r} wait to be recorded: is the database there?"

    @property
    def retry_after(self) -> float:
        return 10.0


class BrokerUnavailable(RetryableError):
    """The broker did not take the message."""

    title = "Broker unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The broker cannot be reached: {self.reason}"

    @property
    def retry_after(self) -> float:
        return 5.0


class NotDurable(RetryableError):
    """The task is accepted, but the broker did not confirm in time that its message is as safe as was asked for."""

    title = "Durability not confirmed"

    def __init__(self, durability: str) -> None:
        super().__init__(durability)
        self.durability = durability

    def __str__(self) -> str:
        return f"The broker did not confirm durability {self.durability!r} in time; a repeat with the same id is safe."

    @property
    def retry_after(self) -> float:
        return 1.0


class Unsupported(PermanentError):
    """The broker in use cannot do this."""

    title = "Not supported by this broker"

    def __init__(self, what: str, broker: str) -> None:
        super().__init__(what, broker)
        self.what, self.broker = what, broker

    def __str__(self) -> str:
        return f"This broker cannot give {self.what}: {self.broker}"


class DatabaseUnavailable(RetryableError):
    """The database did not answer."""

    title = "Database unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The database cannot be reached: {self.reason}"

    @property
    def retry_after(self) -> float:
        return 5.0


class UpstreamError(RetryableError):
    """A service that we called failed in a way that may pass."""

    status, title = 502, "Upstream failed"

    def __init__(self, service: str, reason: str, after: float | None = None) -> None:
        super().__init__(service, reason, after)
        self.service, self.reason, self.after = service, reason, after

    def __str__(self) -> str:
        return f"{self.service} failed: {self.reason}"

    @property
    def retry_after(self) -> float | None:
        return self.after


class UpstreamRefused(PermanentError):
    """A service that we called refused for good."""

    title = "Upstream refused"

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(service, reason)
        self.service, self.reason = service, reason

    def __str__(self) -> str:
        return f"{self.service} refused: {self.reason}"


class BadSignature(PlatformError):
    """The request is not signed by whom it says it is from."""

    status, title = 401, "Bad signature"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source, self.reason = source, reason

    def __str__(self) -> str:
        return f"The {self.source} request was refused: {self.reason}"


class TimeLimitExceeded(RetryableError):
    """The task ran longer than it may."""

    title = "Time limit exceeded"

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"The task ran longer than its limit of {self.seconds:g} s."


class ResultTooLarge(PermanentError):
    """A task returned more than is kept."""

    title = "Result too large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size, self.limit = size, limit

    def __str__(self) -> str:
        return f"The result has {self.size} characters of JSON, more than {self.limit}: store it elsewhere."


class StepTooLarge(PermanentError):
    """A step returned more than is kept."""

    title = "Step too large"

    def __init__(self, name: str, size: int, limit: int) -> None:
        super().__init__(name, size, limit)
        self.name, self.size, self.limit = name, size, limit

    def __str__(self) -> str:
        return f"The result of step {self.name!r} has {self.size} characters of JSON, more than {self.limit}."


class TaskSnoozed(PlatformError):
    """A task wants to go on later; no failure."""

    title = "Snoozed"

    def __init__(self, delay: float, reason: str = "") -> None:
        super().__init__(delay, reason)
        self.delay, self.reason = delay, reason

    def __str__(self) -> str:
        return self.reason or f"to go on in {self.delay:g} s"


class Undeliverable(PermanentError):
    """The broker gave a task's message up and keeps it as a dead letter."""

    title = "Undeliverable"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"The broker made a dead letter of it: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class WorkerLost(RetryableError):
    """The worker died, or lost its lease, while it ran the task."""

    title = "Worker lost"

    def __init__(self, worker: str) -> None:
        super().__init__(worker)
        self.worker = worker

    def __str__(self) -> str:
        return f"The worker {self.worker} died or stalled while it ran the task."


class TaskCancelled(BaseException):
    """Raised inside a task that was asked to stop; not an Exception, so that task code does not catch it."""
