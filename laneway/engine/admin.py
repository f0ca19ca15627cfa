"""The operations of an operator: look, cancel, limit, pause, purge, and deal with dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laneway.engine.errors import UnknownMessage
from laneway.engine.journal import Event, read_event
from laneway.engine.keys import key, prefix
from laneway.engine.lease import Lease
from laneway.engine.message import Stored, decode, pack_id, unpack_id
from laneway.engine.replies import Cancelled, DeadLetterInfo, LeaseStatus, MessageState, QueueStats
from laneway.engine.script_runner import ScriptRunner

PURGE_BATCH = 500
MAX_IDS = 1_000
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """A message in a queue. `at`: due time, end of lease or burial in ms; None when ready or held."""

    stored: Stored
    state: MessageState
    deliveries: int
    at: int | None
    burial: DeadLetterInfo | None = None


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """Where a task's newest message is.

    `position` in ready from 0; `owner` of the lease; `behind`: the task at its key's head; `burial` of a dead letter.
    """

    stored: Stored
    state: MessageState
    deliveries: int
    at: int | None
    position: int | None
    owner: str | None
    cancelled: bool
    behind: str | None
    burial: DeadLetterInfo | None = None
    attempts: int = 0
    lease: Lease | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A queue's limits; None is no limit, or the default.

    `rate`: deliveries per second, `burst` of them at once; `max_size`: waiting messages;
    `max_deliveries` (default 5) of messages that do not say; `dead_max` (10,000) and `dead_age_ms`
    (30 days) of dead letters; `expires_ms`: the queue vanishes when unused for so long.
    """

    max_size: int | None = None
    max_in_flight: int | None = None
    rate: float | None = None
    burst: int = 1
    max_deliveries: int | None = None
    dead_max: int | None = None
    dead_age_ms: int | None = None
    expires_ms: int | None = None

    def fields(self) -> dict[str, int | None]:
        """As the scripts keep them: the rate is an interval in microseconds, with a fresh bucket."""
        return {
            "max_size": self.max_size,
            "max_in_flight": self.max_in_flight,
            "interval": None if self.rate is None else max(1, round(_MICROSECONDS / self.rate)),
            "burst": None if self.rate is None else max(1, self.burst),
            "tat": None,
            "max_deliveries": self.max_deliveries,
            "dead_max": self.dead_max,
            "dead_age": self.dead_age_ms,
            "expires": self.expires_ms,
        }


class Admin:
    """What an operator does to queues, over the same scripts and wires."""

    def __init__(self, runner: ScriptRunner) -> None:
        self.runner = runner

    def cancel(self, queue: str, task_id: str) -> Cancelled:
        """Take the task's waiting messages away; a leased one is marked, which renew and ack report to its holder."""
        return Cancelled(*self._run("cancel", queue, pack_id(task_id)))

    def requeue(self, queue: str, ids: Sequence[str]) -> list[LeaseStatus]:
        """Send dead letters round again as new messages: DONE, UNKNOWN, DUPLICATE (its uniqueness key is taken)."""
        return self._each("requeue", queue, ids)

    def discard(self, queue: str, ids: Sequence[str]) -> list[LeaseStatus]:
        """Throw dead letters away: DONE or UNKNOWN."""
        return self._each("discard", queue, ids)

    def pause(self, queue: str) -> None:
        """Hand out nothing of this queue until `resume`; what runs goes on."""
        self._run("limit", queue, "paused", "1")

    def resume(self, queue: str) -> None:
        """Hand out again."""
        self._run("limit", queue, "paused", "")

    def limit(self, queue: str, limits: Limits) -> None:
        """Set all limits of the queue; what `limits` leaves out is lifted. A pause and the journal stay."""
        fields: list[str | int] = []
        for name, value in limits.fields().items():
            fields += [name, "" if value is None else value]
        self._run("limit", queue, *fields)

    def bound(self, queue: str, max_size: int | None) -> None:
        """Refuse further messages when so many wait (`Limits.max_size`); None: never. Other limits stay."""
        self._run("limit", queue, "max_size", "" if max_size is None else max_size)

    def throttle(self, queue: str, *, rate: float | None, burst: int = 1, max_in_flight: int | None) -> None:
        """Limit deliveries per second and messages in flight (`Limits`); None: no limit. Other limits stay."""
        fields = Limits(rate=rate, burst=burst, max_in_flight=max_in_flight).fields()
        values: list[str | int] = []
        for name in ("interval", "burst", "tat", "max_in_flight"):
            values += [name, "" if fields[name] is None else fields[name] or 0]
        self._run("limit", queue, *values)

    def journal(self, queue: str, bound: int | None) -> None:
        """Note what happens in the queue's journal, at most `bound` unread events; None: do not. Other limits stay."""
        self._run("limit", queue, "journal", "" if bound is None else bound)

    def events(self, queue: str, *, after: str = "0-0", limit: int = 500) -> list[Event]:
        """The oldest events of the journal after that place."""
        call = ("XRANGE", key(queue, "journal"), f"({after}", "+", "COUNT", limit)
        return [read_event(entry, fields) for entry, fields in self._call(*call)]

    def trim_journal(self, queue: str, *, until: str) -> None:
        """Delete the events up to and including that place: they are recorded."""
        milliseconds, _, number = until.partition("-")
        self._call("XTRIM", key(queue, "journal"), "MINID", f"{milliseconds}-{int(number) + 1}")

    def unread(self, queues: Sequence[str]) -> list[int]:
        """How many events wait in the journals."""
        commands = [("XLEN", key(queue, "journal")) for queue in queues]
        return self.runner.pipeline(commands)

    def expire(self, queue: str, expires_ms: int | None) -> None:
        """Let the queue vanish when it is unused for so long (x-expires); None: never. Other limits stay."""
        self._run("limit", queue, "expires", "" if expires_ms is None else expires_ms)

    def find(self, queue: str, task_id: str) -> MessageInfo:
        """Where the task's newest message is, and why it waits. Raises UnknownMessage."""
        found = self.find_many(queue, [task_id])[0]
        if found is None:
            raise UnknownMessage(queue, task_id)
        return found

    def find_many(self, queue: str, task_ids: Sequence[str]) -> list[MessageInfo | None]:
        """The same for many, in one round trip; None for what the queue does not know."""
        script = self.runner.scripts["find"]
        commands = [(b"EVALSHA", script.sha, 1, prefix(queue), pack_id(id)) for id in task_ids]
        replies = self.runner.on_connection(lambda wire, _: self.runner.evaluate_all(wire, script, commands))
        return [_found(queue, *reply) if reply else None for reply in replies]

    def peek(self, queue: str, state: MessageState, *, offset: int = 0, limit: int = 50) -> list[MessageInfo]:
        """One page of the messages in a state, in the order in which they will go on; the oldest dead letter first."""
        reply = self._run("peek", queue, state.value, offset, limit)
        return [_peeked(state, *reply[at : at + 5]) for at in range(0, len(reply), 5)]

    def stats(self, queues: Sequence[str]) -> list[QueueStats]:
        """Sizes, limits and totals, all read at one moment."""
        reply = self.runner.run("stats", [prefix(queue) for queue in queues])
        return [_stats(queue, reply[at * 8 : at * 8 + 8]) for at, queue in enumerate(queues)]

    def purge(self, queue: str) -> int:
        """Throw away what waits, a batch at a time; returns how many. Leased messages and dead letters stay."""
        removed = 0
        while True:
            gone: int = self._run("purge", queue, PURGE_BATCH)
            removed += gone
            if gone < PURGE_BATCH:
                return removed

    def delete(self, queue: str) -> int:
        """Delete the queue with everything in it, limits, totals and journal too; returns how many messages went."""
        return self._run("delete", queue)

    def _run(self, name: str, queue: str, *args: bytes | str | int) -> Any:
        return self.runner.run(name, (prefix(queue),), args)

    def _call(self, *command: bytes | str | int) -> Any:
        return self.runner.call(*command)

    def _each(self, name: str, queue: str, ids: Sequence[str]) -> list[LeaseStatus]:
        codes: list[LeaseStatus] = []
        for start in range(0, len(ids), MAX_IDS):
            packed = [pack_id(id) for id in ids[start : start + MAX_IDS]]
            codes += [LeaseStatus(code) for code in self._run(name, queue, *packed)]
        return codes


def _peeked(
    state: MessageState, raw_id: bytes, record: bytes, deliveries: int, at: int, burial: bytes
) -> MessageInfo:
    deliveries, buried = _burial(burial, deliveries, at)
    return MessageInfo(decode(raw_id, record), state, deliveries, None if at < 0 else at, buried)


def _burial(raw: bytes, deliveries: int, at: int) -> tuple[int, DeadLetterInfo | None]:
    if not raw:
        return deliveries, None
    end = 3 + raw[2]
    buried = DeadLetterInfo(raw[3:end].decode(errors="replace"), raw[end:].decode(errors="replace"), at)
    return int.from_bytes(raw[:2], "big"), buried


def _found(
    queue: str,
    raw_id: bytes,
    state: bytes,
    record: bytes,
    deliveries: int,
    at: int,
    position: int,
    token: bytes,
    marked: int,
    behind: bytes,
    burial: bytes,
    attempts: int,
) -> MessageInfo:
    deliveries, buried = _burial(burial, deliveries, at)
    return MessageInfo(
        stored=decode(raw_id, record),
        state=MessageState(state.decode()),
        deliveries=deliveries,
        at=None if at < 0 else at,
        position=None if position < 0 else position,
        owner=token.decode().rsplit("/", 2)[0] or None,
        cancelled=bool(marked),
        behind=unpack_id(behind) if behind else None,
        burial=buried,
        attempts=attempts,
        lease=Lease(queue, raw_id, token) if token else None,
    )


def _stats(queue: str, parts: Sequence[Any]) -> QueueStats:
    ready, scheduled, held, leased, dead, score, limits, counters = parts
    totals, set_limits = _pairs(counters), _pairs(limits)
    return QueueStats(
        queue=queue,
        ready=ready,
        scheduled=scheduled,
        held=held,
        leased=leased,
        dead=dead,
        oldest_at=None if score < 0 else Stored.time_of(score),
        paused=bool(set_limits.pop("paused", 0)),
        limits=set_limits,
        counters=totals,
    )


def _pairs(flat: Sequence[bytes]) -> dict[str, int]:
    return {flat[at].decode(): int(flat[at + 1]) for at in range(0, len(flat), 2)}
