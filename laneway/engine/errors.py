"""The engine's errors, and the base of every error of Laneway: fields and a template of their text."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(eq_default=False)
class LanewayError(Exception):
    """Something that Laneway can name went wrong.

    A subclass lists its fields as annotations, in the order of its arguments, and a `template` in which `{field}`
    stands for a field's value. `str(error)` is the filled template, fit for a user. Errors survive pickling, because
    a worker's processes hand them on. A class made with `init=False` takes any arguments; its text is the first one.
    """

    template: ClassVar[str] = ""
    retryable: ClassVar[bool] = False
    """Whether doing the same again later may work."""
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
            values = _bound(type(self).__name__, fields, values, named)
            for name, value in zip(fields, values, strict=True):
                setattr(self, name, value)
        elif named:
            raise TypeError(f"{type(self).__name__} takes no named arguments")
        super().__init__(*values)

    def __str__(self) -> str:
        return self.template.format(**self.__dict__) if self.template else super().__str__()


_REQUIRED: Any = object()


def _bound(error: str, fields: dict[str, Any], values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """One value for each field, in order. Raises TypeError as a function with these parameters would."""
    names = list(fields)
    given = dict(zip(names, values, strict=False))
    unknown = [name for name in named if name not in fields or name in given]
    full = {name: default for name, default in fields.items() if default is not _REQUIRED} | given | named
    missing = [name for name in names if name not in full]
    if unknown or missing or len(values) > len(names):
        raise TypeError(f"{error} takes {', '.join(names)}")
    return tuple(full[name] for name in names)


class EngineError(LanewayError, init=False):
    """Something the delivery engine can name went wrong."""


class DuplicateTask(EngineError):
    """The uniqueness key is held by another task."""

    template = "The same work is already queued or running as task {existing!r}."
    existing: str


class QueueFull(EngineError):
    """As many messages wait as the queue may hold."""

    retryable = True

    template = "The queue {queue!r} is full: {size} messages wait."
    queue: str
    size: int


class JournalFull(EngineError):
    """The journal is not read fast enough: nothing is accepted that could not be accounted for."""

    retryable = True

    template = "The history of the queue {queue!r} is behind: {unread} events wait to be recorded."
    queue: str
    unread: int


class TaskCancelled(EngineError):
    """The message continues a task that was cancelled while it ran, so it was not queued."""

    template = "Task {task_id!r} was cancelled; nothing more of it is queued."
    task_id: str


class TooLate(EngineError):
    """By the server's clock it was past the time by which the message had to be queued (`not_after`): it was not."""

    template = "The message came {late:.3f} s after the time by which it had to be queued; it was not queued."
    late: float


class StaleLease(EngineError):
    """The lease ran out and the message went to somebody else."""

    template = "The lease on message {id!r} is no longer held here."
    id: str


class UnknownMessage(EngineError):
    """The queue has no such message."""

    template = "The queue {queue!r} has no message {id!r}."
    queue: str
    id: str


class InvalidMessage(EngineError):
    """A field of the message is out of its bounds."""

    template = "The message's {field} {problem}."
    field: str
    problem: str


class BadAddress(EngineError):
    """The server's address cannot be understood, or something that it needs is missing."""

    template = "The broker's address: {scheme}:// {problem}."
    scheme: str
    problem: str


class ServerTooOld(EngineError):
    """The server lacks commands that the engine needs."""

    template = "The server is version {version}; the engine needs Redis or Valkey {needed} or newer."
    version: str
    needed: str


class DurabilityUnavailable(EngineError):
    """The server cannot promise what was asked for, whatever the wait."""

    template = "The message was queued, but the server cannot confirm durability {durability!r}: {reason}"
    durability: str
    reason: str


class NotDurable(EngineError):
    """The server did not confirm in time; the message may be there, and a repeat with the same id is safe."""

    retryable = True

    template = "Durability {durability!r} was not confirmed within {timeout:g} s; repeat with the same id."
    durability: str
    timeout: float


class ServerLost(EngineError):
    """The connection broke; whether the last command was carried out is not known."""

    retryable = True

    template = "The connection to the broker broke: {reason}"
    reason: str


class NoEviction(UserWarning):
    """The server may throw queued work away when its memory is full."""
