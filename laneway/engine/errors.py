"""The engine's errors: one tree, fit for users, alive after pickling."""

from __future__ import annotations


class EngineError(Exception):
    """Something the delivery engine can name went wrong."""

    retryable = False


class DuplicateTask(EngineError):
    """The uniqueness key is held by another task."""

    def __init__(self, existing: str) -> None:
        super().__init__(existing)
        self.existing = existing

    def __str__(self) -> str:
        return f"The same work is already queued or running as task {self.existing!r}."


class QueueFull(EngineError):
    """As many messages wait as the queue may hold."""

    retryable = True

    def __init__(self, queue: str, size: int) -> None:
        super().__init__(queue, size)
        self.queue, self.size = queue, size

    def __str__(self) -> str:
        return f"The queue {self.queue!r} is full: {self.size} messages wait."


class JournalFull(EngineError):
    """The journal is not read fast enough: nothing is accepted that could not be accounted for."""

    retryable = True

    def __init__(self, queue: str, unread: int) -> None:
        super().__init__(queue, unread)
        self.queue, self.unread = queue, unread

    def __str__(self) -> str:
        return f"The history of the queue {self.queue!r} is behind: {self.unread} events wait to be recorded."


class TaskCancelled(EngineError):
    """The message continues a task that was cancelled while it ran, so it was not queued."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"Task {self.task_id!r} was cancelled; nothing more of it is queued."


class TooLate(EngineError):
    """By the server's clock it was past the time by which the message had to be queued (`not_after`): it was not."""

    def __init__(self, late: float) -> None:
        super().__init__(late)
        self.late = late

    def __str__(self) -> str:
        return f"The message came {self.late:.3f} s after the time by which it had to be queued; it was not queued."


class StaleLease(EngineError):
    """The lease ran out and the message went to somebody else."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"The lease on message {self.id!r} is no longer held here."


class UnknownMessage(EngineError):
    """The queue has no such message."""

    def __init__(self, queue: str, id: str) -> None:
        super().__init__(queue, id)
        self.queue, self.id = queue, id

    def __str__(self) -> str:
        return f"The queue {self.queue!r} has no message {self.id!r}."


class InvalidMessage(EngineError):
    """A field of the message is out of its bounds."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"The message's {self.field} {self.problem}."


class BadAddress(EngineError):
    """The server's address cannot be understood, or something that it needs is missing."""

    def __init__(self, scheme: str, problem: str) -> None:
        super().__init__(scheme, problem)
        self.scheme, self.problem = scheme, problem

    def __str__(self) -> str:
        return f"The broker's address: {self.scheme}:// {self.problem}."


class ServerTooOld(EngineError):
    """The server lacks commands that the engine needs."""

    def __init__(self, version: str, needed: str) -> None:
        super().__init__(version, needed)
        self.version, self.needed = version, needed

    def __str__(self) -> str:
        return f"The server is version {self.version}; the engine needs Redis or Valkey {self.needed} or newer."


class DurabilityUnavailable(EngineError):
    """The server cannot promise what was asked for, whatever the wait."""

    def __init__(self, durability: str, reason: str) -> None:
        super().__init__(durability, reason)
        self.durability, self.reason = durability, reason

    def __str__(self) -> str:
        return f"The message was queued, but the server cannot confirm durability {self.durability!r}: {self.reason}"


class NotDurable(EngineError):
    """The server did not confirm in time; the message may be there, and a repeat with the same id is safe."""

    retryable = True

    def __init__(self, durability: str, timeout: float) -> None:
        super().__init__(durability, timeout)
        self.durability, self.timeout = durability, timeout

    def __str__(self) -> str:
        return f"Durability {self.durability!r} was not confirmed within {self.timeout:g} s; repeat with the same id."


class ServerLost(EngineError):
    """The connection broke; whether the last command was carried out is not known."""

    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The connection to the broker broke: {self.reason}"


class NoEviction(UserWarning):
    """The server may throw queued work away when its memory is full."""
