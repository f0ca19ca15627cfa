"""What the scripts return: codes, and values built from them. Only `PutResult.error` turns a refusal into an error.

`script_loader` gives the members of these enums to the scripts, so that a code has one definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from laneway.engine.errors import DuplicateTask, EngineError, JournalFull, QueueFull, TaskCancelled, TooLate
from laneway.engine.message import QUEUE_FORMAT


class MessageState(StrEnum):
    """The state of a message. It is in exactly one state until it is deleted.

    `LIMITED`: it waits for a limit that is used up, or for a consumer with its labels.
    `SET_ASIDE`: a newer version of the engine wrote it; it waits until a version that can read it uses the queue.
    `STRAY`: it is in none of the others, because keys were deleted or evicted (`Admin.find_strays`).
    """

    SCHEDULED = "scheduled"
    READY = "ready"
    HELD = "held"
    LIMITED = "limited"
    LEASED = "leased"
    DEAD = "dead"
    SET_ASIDE = "set_aside"
    STRAY = "stray"


class StrayKind(StrEnum):
    """What is wrong in a queue whose keys or fields somebody else deleted, or the server evicted.

    `MESSAGE`: a message is in no state, so that it would never be delivered. `UNREADABLE`: the same, and its record
    cannot be read. `REFERENCE`: a state refers to a message that the queue does not have. `KEY`: the messages of an
    ordering key wait behind none. `UNIQUE`: a task that has no message holds a uniqueness key without end.
    """

    MESSAGE = "message"
    UNREADABLE = "unreadable"
    REFERENCE = "reference"
    KEY = "key"
    UNIQUE = "unique"


@dataclass(frozen=True, slots=True)
class Stray:
    """A finding of `Admin.find_strays`. `id`: the message, or the task of `UNIQUE`."""

    queue: str
    kind: StrayKind
    id: str


class PutCode(IntEnum):
    """The outcome of a put.

    `EXISTS`: a message with the same id is already in the queue. `CANCELLED`: the message continues a cancelled task.
    `GONE`: only for a message that was to be moved from kombu's lists: somebody else has taken it.
    """

    ACCEPTED = 0
    EXISTS = 1
    DUPLICATE = 2
    FULL = 3
    CANCELLED = 4
    JOURNAL_FULL = 5
    TOO_LATE = 6
    GONE = 7


class AckAction(IntEnum):
    """What the ack does with a message whose attempt has finished.

    `DONE` deletes it. `RETRY` queues it again. `SNOOZE` queues it again, and the attempt does not count.
    """

    DONE = 1
    RETRY = 2
    SNOOZE = 3


class LeaseStatus(IntEnum):
    """The outcome of an operation for one lease or dead letter. The operation says which codes it returns.

    `STALE`: the message is leased under another token, or not leased. `UNKNOWN`: the queue knows no delivery of this
    message, or has no dead letter with this id. `CANCELLED`: the task was cancelled. `BURIED`: the message became a
    dead letter. `DUPLICATE`: another task holds the uniqueness key. `EXHAUSTED`: it has no attempt left.
    """

    DONE = 0
    STALE = 1
    UNKNOWN = 2
    CANCELLED = 3
    BURIED = 4
    DUPLICATE = 5
    EXHAUSTED = 6


class StoreCode(IntEnum):
    """The outcome of storing a task's result.

    `KEPT`: the stored result was not overwritten. `UNREADABLE`: the script cannot read the state of the stored result.
    """

    STORED = 1
    KEPT = 0
    UNREADABLE = -1


@dataclass(frozen=True, slots=True)
class PutResult:
    """The outcome of one put.

    `id`: the message's id. `existing`: the task that holds the uniqueness key. `size`: waiting messages (`FULL`) or
    unread events (`JOURNAL_FULL`). `late_ms`: how long after `not_after` the message reached the server.
    """

    queue: str
    code: PutCode
    id: str
    existing: str = ""
    size: int = 0
    late_ms: int = 0

    @property
    def accepted(self) -> bool:
        """True when the message is in the queue, by this call or by an earlier one with the same id."""
        return self.code in (PutCode.ACCEPTED, PutCode.EXISTS)

    def error(self) -> EngineError | None:
        """The refusal as an error; None when the message was accepted."""
        match self.code:
            case PutCode.DUPLICATE:
                return DuplicateTask(self.existing)
            case PutCode.FULL:
                return QueueFull(self.queue, self.size)
            case PutCode.JOURNAL_FULL:
                return JournalFull(self.queue, self.size)
            case PutCode.CANCELLED:
                return TaskCancelled(self.id)
            case PutCode.TOO_LATE:
                return TooLate(self.late_ms / 1000)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class CancelResult:
    """The outcome of a cancel: how many messages of the task were deleted, are marked (leased), or are dead letters."""

    removed: int
    marked: int
    dead: int

    @property
    def found(self) -> bool:
        """False when the queue has no message of the task."""
        return bool(self.removed or self.marked or self.dead)


@dataclass(frozen=True, slots=True)
class DeadLetterInfo:
    """Why a message is a dead letter, and when it was buried (ms since 1970)."""

    reason: str
    error: str
    at: int


@dataclass(frozen=True, slots=True)
class QueueStats:
    """A queue's sizes, limits and running totals. `oldest_at`: when the next ready message was put (ms since 1970).

    `set_aside`: messages that only a newer version can read. `format`: the format of the queue (`message.py`).
    """

    queue: str
    ready: int
    scheduled: int
    held: int
    limited: int
    leased: int
    dead: int
    oldest_at: int | None
    paused: bool
    limits: dict[str, int]
    counters: dict[str, int]
    set_aside: int = 0
    format: int = 0

    @property
    def is_newer(self) -> bool:
        """True when a newer version has changed the queue, so that this version leaves it alone."""
        return self.format > QUEUE_FORMAT

    @property
    def waiting(self) -> int:
        """Messages that no worker holds: ready, scheduled, held and limited."""
        return self.ready + self.scheduled + self.held + self.limited
