"""The delivery engine: one typed method per script.

A message is put, waits (ready, scheduled for later, or held behind the head of its ordering key), is
fetched under a lease, and ends by ack, cancel or purge, or among the dead letters. Each step is one
script, atomic, on the server's clock; what can go wrong in between is only that a lease runs out.

    put ──► scheduled ──► ready ──fetch──► leased ──ack──► gone
      └───► held ──────────┘ ▲              │ ├─release──► ready, or scheduled with a delay
                             └─ lease over ─┘ └─bury──► dead ──requeue──► ready
"""

from __future__ import annotations

import itertools
import math
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.connection import ConnectionPool

from laneway.engine.admin import MAX_IDS, Admin
from laneway.engine.connection import Argument, Command, RawConnection, Reply
from laneway.engine.durability import Durability, confirm
from laneway.engine.errors import InvalidMessage
from laneway.engine.journal import Kind
from laneway.engine.keys import prefix
from laneway.engine.lease import Lease
from laneway.engine.message import HAS_KEY, MAX_TEXT, Message, Stored, decode, encode, unpack_id
from laneway.engine.replies import AckAction, LeaseStatus, PutCode, PutResult
from laneway.engine.round_robin import RoundRobin
from laneway.engine.script_runner import ScriptRunner
from laneway.engine.server_check import check_server
from laneway.engine.url import close_sentinels, make_pool

T = TypeVar("T")
LEASE_MS = 30_000
HORIZON_MS = 1_000
CHUNK = 500
"""Messages per script call in `put_many`: about 5 ms of the server's time."""


@dataclass(slots=True, eq=False)
class Delivery:
    """A message handed to this consumer, and the lease under which it is held."""

    queue: str
    raw_id: bytes
    deliveries: int
    record: bytes
    token: bytes

    @property
    def id(self) -> str:
        """The message's id."""
        return unpack_id(self.raw_id)

    @property
    def has_key(self) -> bool:
        """True when others may be waiting behind its ordering key."""
        return bool(self.record[8] & HAS_KEY)

    @property
    def lease(self) -> Lease:
        """The lease alone."""
        return Lease(self.queue, self.raw_id, self.token)

    @property
    def stored(self) -> Stored:
        """The message; decoded anew at each use."""
        return decode(self.raw_id, self.record)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a fetch brought. Look again at `again_at` (server's ms, like `now`; None: when the bell rings)."""

    deliveries: list[Delivery]
    now: int
    again_at: int | None

    @property
    def wait(self) -> float | None:
        """Seconds from the fetch until something is due."""
        return None if self.again_at is None else max(0, self.again_at - self.now) / 1000


class Engine(Admin):
    """The operations of a producer and of a consumer. Thread-safe, and usable after a fork."""

    def __init__(self, pool: ConnectionPool, *, owner: str | None = None, clock: str | None = None) -> None:
        """`owner`: who leases here, for people to read. Nothing is connected before the first call."""
        super().__init__(ScriptRunner(pool, clock=clock))
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self._identity = f"{self.owner}/{secrets.token_hex(3)}"
        self._fetches = itertools.count(1)

    @classmethod
    def from_url(cls, url: str, *, owner: str | None = None, **settings: Any) -> Engine:
        """An engine on any address that `make_pool` knows; `settings` as of redis-py's connections."""
        return cls(make_pool(url, **settings), owner=owner)

    def check(self) -> None:
        """Connect and check the server: raises ServerLost or ServerTooOld, warns with NoEviction."""
        self.runner.on_connection(lambda wire, _: check_server(wire))

    def put(
        self,
        queue: str,
        message: Message,
        *,
        durability: Durability = Durability.MEMORY,
        timeout: float = 5.0,
        not_after: float | None = None,
    ) -> str:
        """Queue one message; returns its id. Taken once, also if the connection breaks meanwhile.

        Raises DuplicateTask, QueueFull, JournalFull, TaskCancelled; TooLate when the server's clock is past `not_after`
        (unix time in s); with a durability also NotDurable (after `timeout` seconds) and DurabilityUnavailable,
        when the message may be queued all the same.
        """
        chunk = (encode(message),)
        answers = self._put(queue, chunk, _fence(not_after), durability, timeout)
        if not answers:
            return message.id or message.task_id
        outcome = _outcomes(queue, chunk, answers)[0]
        error = outcome.error()
        if error is not None:
            raise error
        return outcome.id

    def put_many(
        self,
        queue: str,
        messages: Sequence[Message],
        *,
        durability: Durability = Durability.MEMORY,
        timeout: float = 5.0,
        not_after: float | None = None,
    ) -> list[PutResult]:
        """Queue many, `CHUNK` in one script call; refusals are outcomes, one per message, and do not stop the rest.

        A script call that the server comes to when its clock is past `not_after` (unix time in s) queues nothing.
        """
        encoded = [encode(message) for message in messages]
        fence = _fence(not_after)
        outcomes: list[PutResult] = []
        for chunk in _chunks(encoded, CHUNK):
            answers = self._put(queue, chunk, fence, durability, timeout)
            outcomes += _outcomes(queue, chunk, answers)
        return outcomes

    def fetch(self, lanes: RoundRobin, n: int, *, lease_ms: int = LEASE_MS, horizon_ms: int = HORIZON_MS) -> Batch:
        """Lease up to `n` messages from these queues by their weights.

        All queues in one script call: turns between queues need to know at once which have work. The
        call is not repeated when its answer is lost; what it leased comes back when the lease ends.
        """
        token = f"{self._identity}/{next(self._fetches)}".encode()
        args = (n, token, lease_ms, lanes.place, lanes.cycle, horizon_ms)
        reply: list[Any] = self.runner.run("fetch", lanes.prefixes, args, repeatable=False)
        now: int = reply[0]
        again: int = reply[1]
        lanes.place = reply[2]
        deliveries = [
            Delivery(lanes.queue_at(reply[at]), reply[at + 1], reply[at + 2], reply[at + 3], token)
            for at in range(3, len(reply), 4)
        ]
        return Batch(deliveries, now, None if again < 0 else again)

    def ack(self, deliveries: Sequence[Delivery]) -> list[LeaseStatus]:
        """End them: DONE; CANCELLED (done, though it was cancelled); STALE or UNKNOWN: the lease was lost before."""
        return self._settle("ack", (), deliveries)

    def begin(self, lease: Lease, *, worker: str, call: bytes | None = None) -> tuple[LeaseStatus, int]:
        """Begin an attempt: its number from 1. DONE; CANCELLED: not to be run; STALE or UNKNOWN: the lease was lost.

        STALE also when the attempt under this lease was concluded: the verdict stands. A caller that tries again after
        ServerLost names the `call`: repeated, it begins nothing new.
        """
        call = call or secrets.token_bytes(6)
        reply = self._run("begin", lease.queue, worker[:MAX_TEXT], call, lease.raw_id, lease.token)
        return LeaseStatus(reply[0]), reply[1]

    def conclude(self, lease: Lease, verdict: AckAction, *, outcome: str = "", delay_ms: int = 0) -> LeaseStatus:
        """End the attempt: the message's ack does what the verdict says, also if the worker dies before it.

        `outcome` goes into the journal as it is. DONE, also if there is a verdict, which stands; STALE or UNKNOWN: the
        lease was lost, nothing was changed.
        """
        args = (int(verdict), delay_ms, outcome, lease.raw_id, lease.token)
        return LeaseStatus(self._run("conclude", lease.queue, *args))

    def report(self, lease: Lease, kind: Kind, said: str) -> LeaseStatus:
        """Note what a running attempt says. DONE; CANCELLED: go on, but the task was cancelled; STALE or UNKNOWN."""
        return LeaseStatus(self._run("report", lease.queue, kind.value, said, lease.raw_id, lease.token))

    def look(self, leases: Sequence[Lease]) -> list[LeaseStatus]:
        """Whether they still hold: DONE; CANCELLED (held, but the task was cancelled); STALE or UNKNOWN: lost."""
        return self._settle("look", (), leases)

    def renew(self, deliveries: Sequence[Delivery], *, lease_ms: int = LEASE_MS) -> list[LeaseStatus]:
        """Prolong their leases: DONE; CANCELLED (prolonged, but the task was cancelled); STALE or UNKNOWN: lost."""
        return self._settle("renew", (lease_ms,), deliveries)

    def release(self, deliveries: Sequence[Delivery], *, delay_ms: int = 0, counted: bool = True) -> list[LeaseStatus]:
        """Give them back to their old place, or after a delay: DONE, CANCELLED (gone), BURIED (delivered too often).

        `counted=False` for what was never started: the delivery is taken back from the count.
        """
        return self._settle("release", (delay_ms, int(counted)), deliveries)

    def bury(self, deliveries: Sequence[Delivery], *, reason: str, error: str = "") -> list[LeaseStatus]:
        """Make dead letters of them: kept with reason and error, for review and requeue."""
        return self._settle("bury", (reason[:200], error[:4000]), deliveries)

    def close(self) -> None:
        """Close idle connections; the engine stays usable."""
        self.runner.wires.close()
        close_sentinels(self.runner.pool)

    def _put(
        self, queue: str, chunk: Sequence[tuple[bytes, bytes]], fence: bytes, durability: Durability, timeout: float
    ) -> list[Any]:
        pairs = list(itertools.chain.from_iterable(chunk))
        script, key = self.runner.scripts["put"], prefix(queue)
        slot: tuple[str, int] | None = None

        def use(wire: RawConnection, again: bool) -> Reply:
            nonlocal slot
            if slot is None:
                wire.calls_made += 1
                slot = (wire.producer, wire.calls_made)
            command = (b"EVALSHA", script.sha, 1, key, *slot, int(again), fence, *pairs)
            reply = self.runner.evaluate(wire, script, command)
            if durability is not Durability.MEMORY:
                confirm(wire, durability, timeout)
            return reply

        return self.runner.on_connection(use)

    def _settle(
        self, name: str, first: tuple[Argument, ...], deliveries: Sequence[Delivery | Lease]
    ) -> list[LeaseStatus]:
        by_queue: dict[str, list[int]] = {}
        for index, delivery in enumerate(deliveries):
            by_queue.setdefault(delivery.queue, []).append(index)
        parts = [(queue, part) for queue, indexes in by_queue.items() for part in _chunks(indexes, MAX_IDS)]
        script = self.runner.scripts[name]
        commands: list[Command] = [
            (b"EVALSHA", script.sha, 1, prefix(queue), *first, *_leases(deliveries, part)) for queue, part in parts
        ]
        if not commands:
            return []
        replies = self.runner.on_connection(lambda wire, _: self.runner.evaluate_all(wire, script, commands))
        codes = [LeaseStatus.UNKNOWN] * len(deliveries)
        for (_, part), reply in zip(parts, replies, strict=True):
            for index, code in zip(part, reply, strict=True):
                codes[index] = LeaseStatus(code)
        return codes


def _leases(deliveries: Sequence[Delivery | Lease], indexes: Sequence[int]) -> Iterator[bytes]:
    for index in indexes:
        yield deliveries[index].raw_id
        yield deliveries[index].token


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    if len(items) <= size:
        if items:
            yield items
        return
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _fence(not_after: float | None) -> bytes:
    if not_after is None:
        return b""
    if not math.isfinite(not_after * 1000):
        raise InvalidMessage("not_after", "must be a unix time in seconds")
    return b"%d" % math.floor(not_after * 1000)


def _outcomes(queue: str, chunk: Sequence[tuple[bytes, bytes]], answers: list[Any]) -> list[PutResult]:
    outcomes = [PutResult(queue, PutCode.ACCEPTED, unpack_id(id[1:])) for id, _ in chunk]
    for at in range(0, len(answers), 3):
        index: int = answers[at] - 1
        code, detail = PutCode(answers[at + 1]), answers[at + 2]
        if code in (PutCode.FULL, PutCode.JOURNAL_FULL):
            outcomes[index] = PutResult(queue, code, outcomes[index].id, size=detail)
        elif code is PutCode.DUPLICATE:
            outcomes[index] = PutResult(queue, code, outcomes[index].id, existing=unpack_id(detail))
        elif code is PutCode.TOO_LATE:
            outcomes[index] = PutResult(queue, code, outcomes[index].id, late_ms=detail)
        else:
            outcomes[index] = PutResult(queue, code, unpack_id(detail))
    return outcomes
