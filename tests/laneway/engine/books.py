"""What the model keeps: messages with their states, queues, and the journal as it should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

from laneway.engine import AckAction, Kind, MessageState
from laneway.engine.message import SPAN, Message, UniqueMode, pack_id

DEFAULT_DELIVERIES, DEAD_MAX, DEAD_AGE = 5, 10_000, 30 * 86_400_000
WAITING = (MessageState.HELD, MessageState.SCHEDULED, MessageState.READY)


@dataclass
class Attempt:
    """How many were begun at a message, whether the last one runs, and the call that began it."""

    begun: int = 0
    running: bool = False
    by: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Noted:
    """An entry of the journal as it should be read; `stored` is the message with its score."""

    kind: Kind
    task: str
    id: str
    attempt: int = 0
    worker: str = ""
    verdict: AckAction | None = None
    delay_ms: int = 0
    outcome: str = ""
    reason: str = ""
    detail: str = ""
    stored: tuple[Any, int] | None = None


@dataclass
class Item:
    """One message in one queue."""

    id: str
    message: Message
    sequence: int
    state: MessageState = MessageState.READY
    at: int = 0  # due, end of lease, or burial
    front: bool = False
    times: int = 0
    fence: int = 0
    cancelled: bool = False
    burial: tuple[int, str, str] | None = None
    attempt: Attempt | None = None
    verdict: tuple[AckAction, int] | None = None

    @property
    def begun(self) -> int:
        return self.attempt.begun if self.attempt else 0

    @property
    def running(self) -> bool:
        return self.attempt is not None and self.attempt.running

    @property
    def score(self) -> int:
        return (9 - self.message.priority) * SPAN + self.sequence


@dataclass
class Queue:
    """One queue's items and books."""

    items: dict[str, Item] = field(default_factory=dict)
    unique: dict[str, tuple[str, float]] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    sequence: int = 0
    journal: list[Noted] = field(default_factory=list)

    def note(self, kind: Kind, item: Item, **fields: Any) -> None:
        if "journal" in self.limits:
            self.journal.append(Noted(kind=kind, task=item.message.task_id, id=item.id, **fields))

    def count(self, name: str, n: int = 1) -> None:
        if n:
            self.counters[name] = self.counters.get(name, 0) + n

    def having(self, *states: MessageState) -> list[Item]:
        """Items in these states, in the order of each state."""
        return sorted((item for item in self.items.values() if item.state in states), key=_order)

    def of_task(self, task: str, *, but: str = "") -> list[Item]:
        return [item for item in self.items.values() if item.message.task_id == task and item.id != but]

    def head(self, key: str) -> Item | None:
        """The one message of a key that is neither held nor dead."""
        heads = [
            item
            for item in self.items.values()
            if item.message.key == key and item.state not in (MessageState.HELD, MessageState.DEAD)
        ]
        assert len(heads) <= 1, f"two messages of key {key} at once"
        return heads[0] if heads else None

    def holder(self, key: str, now: int) -> str | None:
        """The task that holds a uniqueness key now."""
        task, until = self.unique.get(key, (None, 0))
        return task if until > now else None

    def sweep(self, now: int) -> None:
        self.unique = {key: held for key, held in self.unique.items() if held[1] > now}

    def hold(self, message: Message, now: int) -> None:
        unique = message.unique
        assert unique
        self.unique[unique.key] = (message.task_id, now + unique.ttl_ms if unique.ttl_ms else inf)

    def free(self, item: Item) -> None:
        unique = item.message.unique
        if unique and self.unique.get(unique.key, ("", 0))[0] == item.message.task_id:
            del self.unique[unique.key]

    def free_if_last(self, item: Item) -> None:
        unique = item.message.unique
        if not unique or unique.mode is UniqueMode.FOR_TIME:
            return
        for other in self.of_task(item.message.task_id, but=item.id):
            theirs = other.message.unique
            carried = theirs and theirs.key == unique.key and theirs.mode is not UniqueMode.FOR_TIME
            if carried and other.state is not MessageState.DEAD:
                return
        self.free(item)


def _order(item: Item) -> tuple[object, ...]:
    raw = pack_id(item.id)
    match item.state:
        case MessageState.READY:
            return (item.score, raw)
        case MessageState.HELD:
            key = (item.message.key or "").encode()
            return (len(key), key, not item.front, item.sequence, raw)
        case _:
            return (item.at, raw)
