"""What the scripts answer, as enums and values; refusals become errors here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from laneway.engine.errors import DuplicateTask, EngineError, JournalFull, QueueFull, TaskCancelled, TooLate


class MessageState(StrEnum):
    """Where a message is; it is in exactly one of these until it is gone."""

    SCHEDULED = "scheduled"
    READY = "ready"
    HELD = "held"
    LEASED = "leased"
    DEAD = "dead"


class PutCode(IntEnum):
    """How a put ended; the numbers are those of `put.lua`."""

    ACCEPTED = 0
    EXISTS = 1
    DUPLICATE = 2
    FULL = 3
    CANCELLED = 4
    BEHIND = 5
    LATE = 6


class AckAction(IntEnum):
    """What becomes of a message when an attempt at it is over: the numbers are those of `record.lua`.

    `SNOOZE` is `AGAIN`, but the attempt does not count.
    """

    DONE_WITH = 1
    AGAIN = 2
    SNOOZE = 3


class LeaseStatus(IntEnum):
    """What became of one id in ack, renew, release, bury, requeue or discard; the numbers are those of the scripts."""

    DONE = 0
    STALE = 1
    UNKNOWN = 2
    CANCELLED = 3
    BURIED = 4
    DUPLICATE = 5


@dataclass(frozen=True, slots=True)
class PutResult:
    """The outcome of one put.

    `id` is the message's id; `existing` the task that holds the uniqueness key; `late_ms` by how much it came too late.
    """

    queue: str
    code: PutCode
    id: str
    existing: str = ""
    size: int = 0
    late_ms: int = 0

    @property
    def accepted(self) -> bool:
        """True when the message is in the queue, whether by this call or by an earlier one with the same id."""
        return self.code in (PutCode.ACCEPTED, PutCode.EXISTS)

    def error(self) -> EngineError | None:
        """The refusal as an error, None when there was none."""
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
class Cancelled:
    """What a cancel found: how many messages of the task it took away, marked, or left among the dead letters."""

    removed: int
    marked: int
    dead: int

    @property
    def found(self) -> bool:
        """False when the queue knows no message of this task."""
        return bool(self.removed or self.marked or self.dead)


@dataclass(frozen=True, slots=True)
class DeadLetterInfo:
    """Why a message is among the dead letters, and since when (ms)."""

    reason: str
    error: str
    at: int


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue's sizes, limits and running totals. `oldest_at`: when the next ready message was put (ms)."""

    queue: str
    ready: int
    scheduled: int
    held: int
    leased: int
    dead: int
    oldest_at: int | None
    paused: bool
    limits: dict[str, int]
    counters: dict[str, int]

    @property
    def waiting(self) -> int:
        """Messages that no worker has taken yet."""
        return self.ready + self.scheduled + self.held
