"""The engine's errors, and `LanewayError`, the base of every error of Laneway."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(eq_default=False)
class LanewayError(Exception):
    """An error that Laneway raises. `str(error)` can be shown to a user.

    A subclass lists its fields as annotations, in the order of its arguments, and a `template` in which `{field}`
    stands for the value of a field. `str(error)` is the filled template. Errors survive pickling, because the processes
    of a worker pass them on. A class declared with `init=False` takes any arguments; its text is the first one.
    """

    template: ClassVar[str] = ""
    retryable: ClassVar[bool] = False
    """True when the same call may succeed later."""
    _fields: ClassVar[dict[str, Any]] = {}
    """Field → its default, or `_REQUIRED`."""

    def __init_subclass__(cls, *, init: bool = True) -> None:
        own = {
            name: cls.__dict__.get(name, _REQUIRED)
            for name, kind in inspect.get_annotations(cls).items()
            if not str(kind).startswith(("ClassVar", "typing.ClassVar"))
        }
        cls._fields = {**cls._fields, **own} if init else {}

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = type(self)._fields
        if fields:
            values = _field_values(type(self).__name__, fields, values, named)
            for name, value in zip(fields, values, strict=True):
                setattr(self, name, value)
        elif named:
            raise TypeError(f"{type(self).__name__} takes no named arguments")
        super().__init__(*values)

    def __str__(self) -> str:
        return self.template.format(**self.__dict__) if self.template else super().__str__()


_REQUIRED: Any = object()


def _field_values(
    error: str, fields: dict[str, Any], values: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, ...]:
    """Return one value per field, in order. Raise TypeError for missing, unknown or too many arguments."""
    names = list(fields)
    given = dict(zip(names, values, strict=False))
    unknown = [name for name in named if name not in fields or name in given]
    full = {name: default for name, default in fields.items() if default is not _REQUIRED} | given | named
    missing = [name for name in names if name not in full]
    if unknown or missing or len(values) > len(names):
        raise TypeError(f"{error} takes {', '.join(names)}")
    return tuple(full[name] for name in names)


class EngineError(LanewayError, init=False):
    """An error of the delivery engine."""


class DuplicateTask(EngineError):
    """Another task holds the uniqueness key."""

    template = "The same work is already queued or running as task {existing!r}."
    existing: str


class QueueFull(EngineError):
    """The number of waiting messages has reached the queue's limit `max_size`."""

    retryable = True

    template = "The queue {queue!r} is full: {size} messages wait."
    queue: str
    size: int


class JournalFull(EngineError):
    """The journal has reached its limit of unread events. The queue refuses new messages until a reader trims it."""

    retryable = True

    template = "The journal of the queue {queue!r} is full: {unread} events wait to be recorded."
    queue: str
    unread: int


class TaskCancelled(EngineError):
    """The message continues a task that was cancelled while it ran. It was not queued."""

    template = "Task {task_id!r} was cancelled, so this further message of the task was not queued."
    task_id: str


class TooLate(EngineError):
    """The message reached the server after `not_after`, by the server's clock. It was not queued."""

    template = "The message reached the server {late:.3f} s after its deadline `not_after`; it was not queued."
    late: float


class NewerQueue(EngineError):
    """A newer version of the engine has changed the queue. This version neither reads nor changes it."""

    template = "The queue {queue!r} has format {format}, of a newer version of Laneway; this version leaves it alone."
    queue: str
    format: int


class UnknownMessage(EngineError):
    """The queue has no message of this task."""

    template = "The queue {queue!r} has no message of task {task_id!r}."
    queue: str
    task_id: str


class InvalidMessage(EngineError):
    """A field of the message has an invalid value."""

    template = "The message's {field} {problem}."
    field: str
    problem: str


class InvalidLimit(EngineError):
    """A field of a named limit has an invalid value."""

    template = "The limit's {field} {problem}."
    field: str
    problem: str


class InvalidKeyPrefix(EngineError):
    """The prefix of the keys cannot be used."""

    template = "The key prefix {prefix!r} must be text of at most {limit} bytes without braces."
    prefix: object
    limit: int


class InvalidUrl(EngineError):
    """The address of the server cannot be parsed, or a setting that it needs is missing."""

    template = "The broker's address: {scheme}:// {problem}."
    scheme: str
    problem: str


class ServerTooOld(EngineError):
    """The server lacks commands that the engine needs."""

    template = "The server has version {version}; the engine needs Redis or Valkey {needed} or newer."
    version: str
    needed: str


class DurabilityUnavailable(EngineError):
    """The server cannot confirm this durability, however long the caller waits. The message was queued."""

    template = "The message was queued, but the server cannot confirm durability {durability!r}: {reason}"
    durability: str
    reason: str


class NotDurable(EngineError):
    """The server did not confirm the durability in time. The message may be queued; a repeat with its id is safe."""

    retryable = True

    template = "The server did not confirm durability {durability!r} within {timeout:g} s; repeat with the same id."
    durability: str
    timeout: float


class ServerLost(EngineError):
    """The connection broke. It is not known whether the server ran the last command."""

    retryable = True

    template = "The connection to the broker broke: {reason}"
    reason: str


class ServerRefuses(ServerLost):
    """The server is there and takes no commands now: it cannot save, lacks replicas, loads, is a replica, is busy."""

    template = "The broker takes no commands now: {reason}"


class LoginRefused(ServerLost):
    """The server refuses the user or the password. It stays so until somebody changes the address or the server."""

    template = "The broker refuses the login: {reason}. Check the user and password in the broker's address."


class ServerFull(EngineError):
    """The server's memory is full (`maxmemory`), so it refuses what makes it grow. It goes on ending and freeing."""

    retryable = True

    template = "The broker's memory is full: {reason}"
    reason: str


class EvictionWarning(UserWarning):
    """The server may evict queued messages when its memory is full."""
