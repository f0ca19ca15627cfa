"""The delivery engine: the operations of producers and consumers, one method per script.

A message is put and waits: ready, scheduled for later, or held behind the head of its ordering key. A fetch leases it
to a consumer. It ends by ack, cancel or purge, or becomes a dead letter. Each step is one script, so it is atomic and
uses the server's clock. A consumer that crashes between two steps has one effect: the lease expires.

    put ──► scheduled ──► ready ──fetch──► leased ──ack──► deleted
      └───► held ──────────┘ ▲              │ ├─release, hand_on──► ready, or scheduled with a delay
                             └─ lease over ─┘ └─bury──► dead ──requeue──► ready
"""

from __future__ import annotations

import itertools
import math
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from redis.connection import ConnectionPool

from laneway.engine.admin import MAX_IDS
from laneway.engine.attempts import Attempts
from laneway.engine.batches import split
from laneway.engine.connection import Argument, Command, RawConnection, Reply
from laneway.engine.durability import Durability, confirm
from laneway.engine.errors import InvalidMessage, NewerQueue
from laneway.engine.keys import Keyspace
from laneway.engine.lease import HandOn, Lease, LeaseTokens
from laneway.engine.message import HAS_KEY, Message, Stored, decode, encode, unpack_id
from laneway.engine.replies import LeaseStatus, PutCode, PutResult
from laneway.engine.round_robin import RoundRobin
from laneway.engine.script_runner import ScriptRunner, described
from laneway.engine.server_check import check_server
from laneway.engine.url import close_sentinels, make_pool

T = TypeVar("T")
EncodedMessage: TypeAlias = tuple[bytes, bytes]
LEASE_MS = 30_000
CHUNK = 500
"""Messages per script call in `put_many`. Such a call takes about 5 ms of the server's time."""
CHUNK_BYTES = 1_048_576
"""Bytes of messages per script call in `put_many`. A larger message has a call of its own."""
FIRST_HAND_ON, LONGEST_HAND_ON = 0.5, 30.0
"""Seconds that a message waits when a consumer hands it on again: the first time, and at most; doubled each time."""
MAX_REASON = 200
MAX_ERROR = 4000


@dataclass(slots=True, eq=False)
class Delivery:
    """A message that this consumer fetched, and the token of its lease."""

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
        """True when the message has an ordering key, behind which other messages may be held."""
        return bool(self.record[8] & HAS_KEY)

    @property
    def lease(self) -> Lease:
        """The lease alone, for calls that do not need the message."""
        return Lease(self.queue, self.raw_id, self.token)

    @property
    def stored(self) -> Stored:
        """The message. Each access decodes it again."""
        return decode(self.raw_id, self.record)


@dataclass(frozen=True, slots=True)
class Batch:
    """The deliveries of a fetch.

    `again_at`: when to fetch again (ms since 1970 by the server's clock, like `now`); None: at the next wakeup.
    `queues`: those that the fetch has looked at. `broken`: queue → the error that kept the script from reading its
    keys. The queue delivered nothing.
    """

    deliveries: list[Delivery]
    now: int
    again_at: int | None
    queues: Sequence[str] = ()
    broken: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def wait(self) -> float | None:
        """Seconds to wait from this fetch to the next; None: until a wakeup."""
        return None if self.again_at is None else max(0, self.again_at - self.now) / 1000


class Engine(Attempts):
    """The operations of producers and consumers, and those of its bases. Thread-safe, and usable after a fork."""

    def __init__(
        self, pool: ConnectionPool, *, owner: str | None = None, key_prefix: str = "", clock: str | None = None
    ) -> None:
        """`owner` names the holder of the leases, for people to read. Connects at the first call.

        `key_prefix` comes before every key (`Keyspace`). `clock`: see `load_scripts`.
        """
        keys = Keyspace(key_prefix, int(pool.connection_kwargs.get("db") or 0))
        super().__init__(ScriptRunner(pool, clock=clock), keys)
        self._given_owner = owner
        self._tokens = LeaseTokens(self.owner)

    @property
    def owner(self) -> str:
        """The holder of the leases that this process takes: `host:pid` unless another name was given."""
        return self._given_owner or f"{socket.gethostname()}:{os.getpid()}"

    @classmethod
    def from_url(cls, url: str, *, owner: str | None = None, key_prefix: str = "", **settings: Any) -> Engine:
        """Make an engine for a server address (see `make_pool`). `settings` are redis-py's connection settings."""
        return cls(make_pool(url, **settings), owner=owner, key_prefix=key_prefix)

    def time(self) -> float:
        """The server's Unix time (s)."""
        seconds, microseconds = self.runner.call("TIME")
        return int(seconds) + int(microseconds) / 1_000_000

    def check(self) -> None:
        """Connect, and check the server and that it takes writes. Raises ServerLost or ServerTooOld.

        Warns with EvictionWarning.
        """
        self.runner.on_connection(check_server)
        self.runner.call("HDEL", self.keys.key("check", "limits"), "")  # changes nothing, and works without free memory

    def put(
        self,
        queue: str,
        message: Message,
        *,
        durability: Durability = Durability.MEMORY,
        timeout: float = 5.0,
        not_after: float | None = None,
        version: int | None = None,
    ) -> str:
        """Queue a message and return its id. If the connection breaks, the call is repeated but queues it only once.

        `version`: a number that grows with each submission of the task (up to 2^53); `cancel` may refuse it.

        Raises DuplicateTask, QueueFull, JournalFull and TaskCancelled; TooLate when the server's clock is past
        `not_after` (unix time in s); ServerLost. With a durability it also raises NotDurable (after `timeout` seconds)
        and DurabilityUnavailable; the message may have been queued then.
        """
        chunk = (encode(message),)
        reply = self._put(queue, chunk, (_not_after_ms(not_after), _version(version)), durability, timeout)
        if not reply:
            return message.id or message.task_id
        result = _put_results(queue, chunk, reply)[0]
        error = result.error()
        if error is not None:
            raise error
        return result.id

    def put_many(
        self,
        queue: str,
        messages: Sequence[Message],
        *,
        durability: Durability = Durability.MEMORY,
        timeout: float = 5.0,
        not_after: float | None = None,
        version: int | None = None,
    ) -> list[PutResult]:
        """Queue messages, `CHUNK` or `CHUNK_BYTES` per script call; return one result per message, in order.

        A refusal does not stop the rest.

        A script call queues nothing when the server's clock is past `not_after` (unix time in s). `version`: as in
        `put`, the same for all messages.
        """
        encoded = [encode(message) for message in messages]
        conditions = _not_after_ms(not_after), _version(version)
        results: list[PutResult] = []
        for chunk in split(encoded, _size, most=CHUNK, most_bytes=CHUNK_BYTES):
            reply = self._put(queue, chunk, conditions, durability, timeout)
            results += _put_results(queue, chunk, reply)
        return results

    def fetch(self, round_robin: RoundRobin, n: int, *, lease_ms: int = LEASE_MS, idle_poll_ms: int = 0) -> Batch:
        """Lease up to `n` messages from these queues, in turns by their weights; at most 2 MB, but at least one.

        One script call reads the queues, because it can take turns only if it knows which of them have messages. Of
        many queues it reads a part (`Watchlist`). If the reply is lost, the call is not repeated; the leases that it
        made expire. `idle_poll_ms`: the caller waits for messages, and fetches again after this time even without a
        wakeup. Of the callers that wait, the server tells only one when a message becomes due before that. 0: the
        caller does not wait.
        """
        if self._tokens.pid != os.getpid():
            self._tokens = LeaseTokens(self.owner)
        token = next(self._tokens)
        choice, start = round_robin.choose(n, idle_poll_ms)
        args = (n, token, lease_ms, start, choice.turns, idle_poll_ms, *round_robin.consumer_of(choice))
        reply: list[Any] = self.runner.run("fetch", round_robin.prefixes(self.keys, choice), args, repeatable=False)
        now, passed, times, expiring, problems = reply[:5]
        again_at = round_robin.learn(
            choice, now=now, passed=passed, delivering=reply[5::4], times=times, expiring=expiring
        )
        queues = {number: round_robin.queues[index] for number, index in enumerate(choice.queues, 1)}
        deliveries = [
            Delivery(queues[reply[at]], reply[at + 1], reply[at + 2], reply[at + 3], token)
            for at in range(5, len(reply), 4)
        ]
        broken = {
            queues[number]: described(problem.decode(errors="replace"))
            for number, problem in zip(problems[::2], problems[1::2], strict=True)
        }
        return Batch(deliveries, now, again_at, tuple(queues.values()), broken)

    def ack(self, deliveries: Sequence[Delivery]) -> list[LeaseStatus]:
        """Ack messages, which deletes them. A message whose attempt finished with RETRY or SNOOZE is queued again.

        DONE; CANCELLED: deleted in any case, because its task was cancelled; STALE or UNKNOWN: the lease was lost.
        """
        return self._run_on_leases("ack", (), deliveries)

    def check_leases(self, leases: Sequence[Lease]) -> list[LeaseStatus]:
        """Check leases. DONE: held; CANCELLED: held, but the task was cancelled; STALE or UNKNOWN: lost."""
        return self._run_on_leases("check_leases", (), leases)

    def renew(self, deliveries: Sequence[Delivery], *, lease_ms: int = LEASE_MS) -> list[LeaseStatus]:
        """Renew leases. DONE; CANCELLED: renewed, but the task was cancelled; STALE or UNKNOWN: the lease was lost."""
        return self._run_on_leases("renew", (lease_ms,), deliveries)

    def release(self, deliveries: Sequence[Delivery], *, delay_ms: int = 0, counted: bool = True) -> list[LeaseStatus]:
        """Return messages to their old position in the queue, at once or after a delay.

        `counted=False`: do not count this delivery, because the task was not started. An ack action is carried out
        instead, if there is one. DONE; CANCELLED: deleted, because the task was cancelled; BURIED: it became a dead
        letter, because it has reached its limit of deliveries; STALE or UNKNOWN: the lease was lost.
        """
        return self._run_on_leases("release", (delay_ms, int(counted)), deliveries)

    def hand_on(self, deliveries: Sequence[Delivery], how: HandOn) -> list[LeaseStatus]:
        """Return messages that this consumer does not know to their old position, for a consumer that does.

        The delivery does not count. Others get them at once; this consumer leaves them to others for 2 s, and then
        longer. Codes are those of `release`; BURIED: the message was handed on for `how.longest`.
        """
        delays = (round(FIRST_HAND_ON * 1000), round(LONGEST_HAND_ON * 1000), round(how.longest * 1000))
        texts = (how.reason[:MAX_REASON], how.error[:MAX_ERROR], how.note[:MAX_ERROR])
        return self._run_on_leases("hand_on", (*delays, *texts), deliveries)

    def bury(self, deliveries: Sequence[Delivery], *, reason: str, error: str = "") -> list[LeaseStatus]:
        """Make messages dead letters, which are kept with reason and error for review and requeue.

        An ack action is carried out instead, if there is one; CANCELLED then means that the message was deleted,
        because its task was cancelled. Otherwise DONE; STALE or UNKNOWN: the lease was lost.
        """
        return self._run_on_leases("bury", (reason[:MAX_REASON], error[:MAX_ERROR]), deliveries)

    def close(self) -> None:
        """Close the idle connections. The engine stays usable."""
        self.runner.connections.close()
        close_sentinels(self.runner.pool)

    def _put(
        self,
        queue: str,
        chunk: Sequence[EncodedMessage],
        conditions: tuple[bytes, bytes],
        durability: Durability,
        timeout: float,
    ) -> list[Any]:
        arguments = list(itertools.chain.from_iterable(chunk))
        script, key = self.runner.scripts["put"], self.keys.queue(queue)
        call: tuple[str, int] | None = None

        def use(connection: RawConnection) -> Reply:
            nonlocal call
            if call is None:
                connection.calls_made += 1
                call = (connection.producer, connection.calls_made)
            command = (b"EVALSHA", script.sha, 1, key, *call, *conditions, *arguments)
            reply = self.runner.evaluate(connection, script, command)
            if durability is not Durability.MEMORY:
                confirm(connection, durability, timeout)
            return reply

        return self.runner.on_connection(use)

    def _run_on_leases(
        self, name: str, args: tuple[Argument, ...], leases: Sequence[Delivery | Lease]
    ) -> list[LeaseStatus]:
        """Run a script on the leases of each queue, all in one round trip; returns one status per lease, in order."""
        by_queue: dict[str, list[int]] = {}
        for index, lease in enumerate(leases):
            by_queue.setdefault(lease.queue, []).append(index)
        parts = [(queue, part) for queue, indexes in by_queue.items() for part in _chunks(indexes, MAX_IDS)]
        script = self.runner.scripts[name]
        commands: list[Command] = [
            (b"EVALSHA", script.sha, 1, self.keys.queue(queue), *args, *_ids_and_tokens(leases, part))
            for queue, part in parts
        ]
        if not commands:
            return []
        replies = self.runner.on_connection(lambda connection: self.runner.evaluate_each(connection, script, commands))
        codes = [LeaseStatus.UNKNOWN] * len(leases)
        for (_, part), reply in zip(parts, replies, strict=True):
            if isinstance(reply, NewerQueue):
                continue  # its leases are lost: a worker of the newer version continues
            for index, code in zip(part, reply, strict=True):
                codes[index] = LeaseStatus(code)
        return codes


def _size(encoded: EncodedMessage) -> int:
    """The bytes of a message in a call of `put.lua`."""
    return len(encoded[0]) + len(encoded[1])


def _ids_and_tokens(leases: Sequence[Delivery | Lease], indexes: Sequence[int]) -> Iterator[bytes]:
    for index in indexes:
        yield leases[index].raw_id
        yield leases[index].token


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    if len(items) <= size:
        if items:
            yield items
        return
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _not_after_ms(not_after: float | None) -> bytes:
    """The argument of `put.lua`: ms since 1970; empty for no limit. Raises InvalidMessage."""
    if not_after is None:
        return b""
    if not math.isfinite(not_after * 1000):
        raise InvalidMessage("not_after", "must be a unix time in seconds")
    return b"%d" % math.floor(not_after * 1000)


def _version(version: int | None) -> bytes:
    return b"" if version is None else b"%d" % version


def _put_results(queue: str, chunk: Sequence[EncodedMessage], reply: list[Any]) -> list[PutResult]:
    """One result per message. `reply` lists index, code and detail of the messages that were refused or renamed."""
    results = [PutResult(queue, PutCode.ACCEPTED, unpack_id(id[1:])) for id, _ in chunk]
    for start in range(0, len(reply), 3):
        index: int = reply[start] - 1
        code, detail = PutCode(reply[start + 1]), reply[start + 2]
        match code:
            case PutCode.FULL | PutCode.JOURNAL_FULL:
                results[index] = PutResult(queue, code, results[index].id, size=detail)
            case PutCode.DUPLICATE:
                results[index] = PutResult(queue, code, results[index].id, existing=unpack_id(detail))
            case PutCode.TOO_LATE:
                results[index] = PutResult(queue, code, results[index].id, late_ms=detail)
            case _:
                results[index] = PutResult(queue, code, unpack_id(detail))
    return results
