"""What the model keeps: messages with their states, queues, and the journal that the engine must write."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Any

from laneway.engine import AckAction, EventKind, Flow, Message, MessageState, UniqueMode
from laneway.engine.message import SPAN, pack_id

DEFAULT_MAX_DELIVERIES, DEFAULT_DEAD_MAX, DEFAULT_DEAD_AGE_MS = 5, 10_000, 30 * 86_400_000
OTHERS_FIRST_MS = 2_000
"""For how long a consumer leaves a message that it has handed on to others."""
WAITING = (MessageState.HELD, MessageState.LIMITED, MessageState.SCHEDULED, MessageState.READY)


@dataclass
class Attempts:
    """How many attempts at a message were started, whether the last one runs, and the call that started it."""

    started: int = 0
    running: bool = False
    call: bytes = b""


@dataclass(frozen=True, kw_only=True)
class ExpectedEvent:
    """An event that the journal must contain. `stored` is the message with its score.

    `shares_entry`: the event is in the same entry of the journal as the one before.
    """

    kind: EventKind
    task: str
    id: str
    attempt: int = 0
    worker: str = ""
    ack_action: AckAction | None = None
    delay_ms: int = 0
    outcome: str = ""
    reason: str = ""
    detail: str = ""
    stored: tuple[Any, int] | None = None
    shares_entry: bool = field(default=False, compare=False)


@dataclass
class HandOns:
    """Since when a message is handed on (ms), how often, and how often by a consumer that had done so before."""

    first: int
    times: int = 0
    rounds: int = 0


@dataclass
class ModelMessage:
    """One message in one queue. `at`: due time, end of the lease, or when it was buried, in ms."""

    id: str
    message: Message
    sequence: int
    state: MessageState = MessageState.READY
    at: int = 0
    front: bool = False
    deliveries: int = 0
    fence: int = 0
    cancelled: bool = False
    dead_info: tuple[int, str, str] | None = None
    attempts: Attempts | None = None
    ack_action: tuple[AckAction, int] | None = None
    hand_ons: HandOns | None = None
    rank: int | None = None
    advanced: bool = False
    line: tuple[str, str] | None = None
    line_score: int = 0
    slots: list[tuple[str, str, int]] = field(default_factory=list)

    def copy(self) -> ModelMessage:
        return replace(self, attempts=replace(self.attempts) if self.attempts else None, slots=list(self.slots))

    @property
    def started(self) -> int:
        return self.attempts.started if self.attempts else 0

    @property
    def running(self) -> bool:
        return self.attempts is not None and self.attempts.running

    @property
    def score(self) -> int:
        return (9 - self.message.priority) * SPAN + self.sequence

    @property
    def flow(self) -> Flow:
        return self.message.flow or Flow()

    @property
    def ready_score(self) -> int:
        """Its order among the ready messages of its queue, but for those that have waited too long."""
        return self.score if self.rank is None else self.score - self.sequence + self.rank

    @property
    def in_journal(self) -> tuple[Message, int]:
        """What an event says of the message: it has no body that the journal's reader has."""
        body = b"" if self.message.body_known else self.message.body
        return replace(self.message, body=body), self.score

    @property
    def is_head(self) -> bool:
        """True when it occupies its ordering key, if it has one."""
        return self.state not in (MessageState.HELD, MessageState.DEAD)


@dataclass
class ModelQueue:
    """The messages of one queue, its uniqueness keys, limits, counters and journal."""

    messages: dict[str, ModelMessage] = field(default_factory=dict)
    unique: dict[str, tuple[str, float]] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    sequence: int = 0
    journal: list[ExpectedEvent] = field(default_factory=list)
    withdrawn: dict[str, int] = field(default_factory=dict)
    lines: dict[tuple[str, str], int] = field(default_factory=dict)
    label_lines: set[tuple[str, str]] = field(default_factory=set)
    tenants: dict[tuple[int, str], int] = field(default_factory=dict)
    delivered: dict[int, int] = field(default_factory=dict)
    has_tenants: bool = False

    def copy(self) -> ModelQueue:
        """A queue that can be changed without changing this one. It has no journal."""
        parts = {part.name: copy(getattr(self, part.name)) for part in fields(self)}
        messages = {id: m.copy() for id, m in self.messages.items()}
        return ModelQueue(**parts | {"messages": messages, "journal": []})

    def write_event(self, kind: EventKind, m: ModelMessage, **fields: Any) -> None:
        if "journal" in self.limits:
            self.journal.append(ExpectedEvent(kind=kind, task=m.message.task_id, id=m.id, **fields))

    def is_withdrawn(self, task: str, version: int | None) -> bool:
        return version is not None and version <= self.withdrawn.get(task, -1)

    @property
    def unread(self) -> int:
        """How many entries the journal has."""
        return sum(not event.shares_entry for event in self.journal)

    def count(self, name: str, n: int = 1) -> None:
        if n:
            self.counters[name] = self.counters.get(name, 0) + n

    def in_states(self, *states: MessageState) -> list[ModelMessage]:
        """Messages in these states, in the order of each state."""
        return sorted((m for m in self.messages.values() if m.state in states), key=_order)

    def of_task(self, task: str, *, except_id: str = "") -> list[ModelMessage]:
        return [m for m in self.messages.values() if m.message.task_id == task and m.id != except_id]

    def head(self, key: str) -> ModelMessage | None:
        """The one message of an ordering key that is neither held nor dead."""
        heads = [m for m in self.messages.values() if m.message.key == key and m.is_head]
        assert len(heads) <= 1, f"two messages of key {key} at once"
        return heads[0] if heads else None

    def unique_holder(self, key: str, now: int) -> str | None:
        """The task that holds a uniqueness key now."""
        task, until = self.unique.get(key, (None, 0))
        return task if until > now else None

    def release_expired_unique(self, now: int) -> None:
        self.unique = {key: held for key, held in self.unique.items() if held[1] > now}

    def hold_unique(self, message: Message, now: int) -> None:
        unique = message.unique
        assert unique
        self.unique[unique.key] = (message.task_id, now + unique.ttl_ms if unique.ttl_ms else inf)

    def release_unique(self, m: ModelMessage) -> None:
        unique = m.message.unique
        if unique and self.unique.get(unique.key, ("", 0))[0] == m.message.task_id:
            del self.unique[unique.key]

    def release_unique_if_last(self, m: ModelMessage) -> None:
        unique = m.message.unique
        if not unique or unique.mode is UniqueMode.FOR_TIME:
            return
        for other in self.of_task(m.message.task_id, except_id=m.id):
            theirs = other.message.unique
            shares = theirs and theirs.key == unique.key and theirs.mode is not UniqueMode.FOR_TIME
            if shares and other.state is not MessageState.DEAD:
                return
        self.release_unique(m)


def _order(m: ModelMessage) -> tuple[object, ...]:
    raw_id = pack_id(m.id)
    match m.state:
        case MessageState.READY:
            return (m.ready_score % SPAN - SPAN if m.advanced else m.ready_score, raw_id)
        case MessageState.LIMITED:
            assert m.line
            line = m.line[0] if m.line[0].startswith("\1") else "\0".join(m.line)
            return (len(line), line.encode(), m.line_score, raw_id)
        case MessageState.HELD:
            key = (m.message.key or "").encode()
            return (len(key), key, not m.front, m.sequence, raw_id)
        case _:
            return (m.at, raw_id)
