"""The operations of an operator: find, cancel, limit, pause, purge, read the journal, and deal with dead letters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laneway.engine.admin_replies import MessageInfo, cursor_of, found_message, is_text, message_info, queue_stats
from laneway.engine.errors import UnknownMessage
from laneway.engine.journal import Event, JournalPage, read_entry
from laneway.engine.keys import Keyspace
from laneway.engine.message import pack_id, unpack_id
from laneway.engine.named_limits import NamedLimits
from laneway.engine.replies import CancelResult, LeaseStatus, MessageState, QueueStats, Stray, StrayKind
from laneway.engine.script_runner import ScriptRunner
from laneway.engine.server_check import server_memory

PURGE_BATCH = 500
MAX_IDS = 1_000
MAX_QUEUES = 10_000
SCAN_COUNT = 1_000
EVENT_BYTES = 1_048_576
"""A read of the journal ends after so many bytes of entries."""
_MICROSECONDS = 1_000_000
_GLOB_SIGN = re.compile(rb"[\\*?\[\]]")
CHECKED = (
    *("messages", "ready", "scheduled", "leased", "dead", "set_aside", "held", "heads", "tasks", "unique"),
    *("deliveries", "dead_info", "cancelled", "attempts", "ack_actions", "handed_on", "limited_in", "ranks", "slots"),
)
"""The keys that `find_strays` looks through. Messages come first: those that it puts back are no findings later."""
_PEEK_FIELDS = 5
_STATS_FIELDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a queue; None means no limit, or the default.

    `max_size`: waiting messages. `max_in_flight`: leased messages. `rate`: deliveries per second; `burst`: so many may
    come at once. `max_deliveries` (default 5): for messages that do not set their own. `dead_max` (10,000) and
    `dead_age_ms` (30 days): number and age of dead letters. `expires_ms`: the queue is deleted after it was unused for
    this long. `max_wait_ms`: a message that has waited for longer goes before those of all priorities.
    """

    max_size: int | None = None
    max_in_flight: int | None = None
    rate: float | None = None
    burst: int = 1
    max_deliveries: int | None = None
    dead_max: int | None = None
    dead_age_ms: int | None = None
    expires_ms: int | None = None
    max_wait_ms: int | None = None

    def fields(self) -> dict[str, int | None]:
        """The fields of the key `limits`. A rate is stored as microseconds per delivery; `tat`, its state, is reset."""
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
            "max_wait": self.max_wait_ms,
        }


class Admin(NamedLimits):
    """What an operator does to queues. Producers and consumers use the same scripts and connections."""

    def __init__(self, runner: ScriptRunner, keys: Keyspace) -> None:
        self.runner, self.keys = runner, keys

    def cancel(self, queue: str, task_id: str, *, version: int | None = None) -> CancelResult:
        """Delete the task's waiting messages. Mark leased ones: renew and ack report CANCELLED to the holder.

        `version`: if the queue has no such message, refuse puts of this version of the task and of older ones
        (TaskCancelled), for a minute. So a put that is under way, by a sender that may have died, queues nothing.
        """
        return CancelResult(*self._run("cancel", queue, pack_id(task_id), b"" if version is None else version))

    def mark(self, owner: str, *, replace: bool = False) -> str:
        """Store who owns the queues in this database, unless somebody else does or with `replace`; return the owner."""
        key = self.keys.owner()
        known: Any = self.runner.call("GET", key)
        if known is None or (replace and known != owner.encode()):
            self.runner.call("SET", key, owner, *(() if replace else ("NX",)))
            known = self.runner.call("GET", key)
        return known.decode(errors="replace") if isinstance(known, bytes) else owner

    def requeue(self, queue: str, ids: Sequence[str]) -> list[LeaseStatus]:
        """Queue dead letters again as new messages: DONE, UNKNOWN, or DUPLICATE (another task holds its key)."""
        return self._run_on_dead("requeue", queue, ids)

    def discard(self, queue: str, ids: Sequence[str]) -> list[LeaseStatus]:
        """Delete dead letters: DONE or UNKNOWN."""
        return self._run_on_dead("discard", queue, ids)

    def pause(self, queue: str) -> None:
        """Deliver no message of the queue until `resume`. Leased messages are not affected."""
        self._set_limits(queue, {"paused": 1})

    def resume(self, queue: str) -> None:
        """Deliver messages of the queue again."""
        self._set_limits(queue, {"paused": None})

    def limit(self, queue: str, limits: Limits) -> None:
        """Set all limits of the queue, and remove those that `limits` leaves out. A pause and the journal stay."""
        self._set_limits(queue, limits.fields())

    def set_max_size(self, queue: str, max_size: int | None) -> None:
        """Refuse new messages while this many wait (`Limits.max_size`); None: no limit. Other limits stay."""
        self._set_limits(queue, {"max_size": max_size})

    def throttle(self, queue: str, limits: Limits) -> None:
        """Set rate, burst, `max_in_flight` and `max_wait_ms` as in `limits`. Other limits stay."""
        fields = limits.fields()
        self._set_limits(
            queue, {name: fields[name] for name in ("interval", "burst", "tat", "max_in_flight", "max_wait")}
        )

    def limit_task_names(self, queue: str, *, on: bool) -> None:
        """Have messages of the queue use the limit `task:<name>` of their task's name. Other limits stay."""
        self._set_limits(queue, {"task_limits": 1 if on else None})

    def expire(self, queue: str, expires_ms: int | None) -> None:
        """Delete the queue after it was unused for this long (x-expires); None: never. Other limits stay."""
        self._set_limits(queue, {"expires": expires_ms})

    def enable_journal(self, queue: str, max_unread: int | None) -> None:
        """Write an event to the queue's journal for each change; None: write none.

        While the journal holds `max_unread` events, the queue refuses new messages. Other limits stay.
        """
        self._set_limits(queue, {"journal": max_unread})

    def events(self, queue: str, *, after: str = "0-0", limit: int = 500) -> list[Event]:
        """The oldest events of the journal after this cursor, about `limit`: all events of the last entry are there.

        Fewer when their entries have more than about `EVENT_BYTES`.
        """
        return self.read_journal(queue, after=after, limit=limit).events

    def read_journal(self, queue: str, *, after: str, limit: int = 500) -> JournalPage:
        """As `events`, with what the queue knows of its reader (`JournalPage`), in one script call."""
        recorded, has_position, entries = self._run("read_journal", queue, after, limit, EVENT_BYTES)
        events: list[Event] = []
        for cursor, fields in entries:
            events += read_entry(cursor, fields)
            if len(events) >= limit:
                break
        return JournalPage(cursor_of(recorded), bool(has_position), events)

    def recorded(self, queues: Sequence[str]) -> list[str]:
        """Up to which cursor each journal was trimmed; `START` if never."""
        commands = [("HGET", self.keys.key(queue, "counters"), "recorded") for queue in queues]
        return [cursor_of(reply) for reply in self.runner.pipeline(commands)]

    def trim_journal(self, queue: str, *, until: str) -> None:
        """Delete the events up to and including this cursor. The reader has stored them."""
        self._run("trim_journal", queue, *until.split("-"))

    def find_strays(self, queue: str, *, repair: bool = False) -> Iterator[Stray]:
        """Yield the messages that are in no state, and the references to messages that the queue does not have.

        `repair`: put such messages back into the queue, delete the references, let the next message of a key go
        ahead, release the uniqueness keys. Each page is one script call, so that no moving message is mistaken. A
        message that only a newer version can read is left to that version.
        """
        for name in CHECKED:
            cursor: bytes = b"0"
            while True:
                cursor, *found = self._run("find_strays", queue, name, cursor, int(repair))
                for kind, id in zip(found[::2], found[1::2], strict=True):
                    yield Stray(queue, StrayKind(kind.decode()), unpack_id(id))
                if cursor == b"0":
                    break

    def unread(self, queues: Sequence[str]) -> list[int]:
        """How many events each journal holds."""
        return self.runner.pipeline([("XLEN", self.keys.key(queue, "journal")) for queue in queues])

    def find(self, queue: str, task_id: str) -> MessageInfo:
        """The task's newest message, and what it waits for. Raises UnknownMessage."""
        found = self.find_many(queue, [task_id])[0]
        if found is None:
            raise UnknownMessage(queue, task_id)
        return found

    def find_many(self, queue: str, task_ids: Sequence[str], *, bodies: bool = True) -> list[MessageInfo | None]:
        """The newest message of each task, in one round trip; None for a task without a message in the queue.

        `bodies`: False leaves their bodies empty, which may be large.
        """
        script, key = self.runner.scripts["find"], self.keys.queue(queue)
        commands = [(b"EVALSHA", script.sha, 1, key, pack_id(id), int(not bodies)) for id in task_ids]
        replies = self.runner.on_connection(lambda connection: self.runner.evaluate_all(connection, script, commands))
        return [found_message(queue, *reply) if reply else None for reply in replies]

    def peek(
        self, queue: str, state: MessageState, *, offset: int = 0, limit: int = 50, bodies: bool = True
    ) -> list[MessageInfo]:
        """One page of the messages in a state, in the order in which they leave it; the oldest dead letter first.

        `bodies`: False leaves their bodies empty, which may be large.
        """
        reply = self._run("peek", queue, state.value, offset, limit, int(not bodies))
        rows = [reply[start : start + _PEEK_FIELDS] for start in range(0, len(reply), _PEEK_FIELDS)]
        return [message_info(*row, state=state) for row in rows]

    def stats(self, queues: Sequence[str]) -> list[QueueStats]:
        """Sizes, limits and totals of the queues, all read at one moment."""
        reply = self.runner.read("stats", [self.keys.queue(queue) for queue in queues])
        rows = [reply[start : start + _STATS_FIELDS] for start in range(0, len(reply), _STATS_FIELDS)]
        return [queue_stats(queue, *row) for queue, row in zip(queues, rows, strict=True)]

    def memory(self) -> tuple[int, int]:
        """The bytes of memory that the server uses, and its limit `maxmemory`; 0 if there is none, or it is hidden."""
        return self.runner.on_connection(server_memory)

    def queue_names(self) -> list[str]:
        """The queues of this database that hold messages, at most 10,000. This scans all keys of the database."""
        pattern = _GLOB_SIGN.sub(rb"\\\g<0>", self.keys.key("\0", "messages")).replace(b"\0", b"*")
        found, cursor = set[bytes](), b"0"
        while True:
            reply: Any = self.runner.call("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
            cursor = reply[0]
            found.update(reply[1])
            if cursor == b"0" or len(found) >= MAX_QUEUES:
                return sorted(self.keys.queue_of(key) for key in found if is_text(key))

    def purge(self, queue: str) -> int:
        """Delete the waiting messages, a batch at a time; returns how many. Leased messages and dead letters stay."""
        removed = 0
        while True:
            seen, deleted = self._run("purge", queue, PURGE_BATCH)
            removed += deleted
            if seen < PURGE_BATCH:
                return removed

    def delete(self, queue: str) -> int:
        """Delete the queue with its messages, limits, totals and journal; returns how many messages it had."""
        return self._run("delete", queue)

    def _run(self, name: str, queue: str, *args: bytes | str | int) -> Any:
        return self.runner.run(name, (self.keys.queue(queue),), args)

    def _set_limits(self, queue: str, fields: Mapping[str, int | None]) -> None:
        args: list[str | int] = []
        for name, value in fields.items():
            args += [name, "" if value is None else value]
        self._run("limit", queue, *args)

    def _run_on_dead(self, name: str, queue: str, ids: Sequence[str]) -> list[LeaseStatus]:
        codes: list[LeaseStatus] = []
        for start in range(0, len(ids), MAX_IDS):
            packed = [pack_id(id) for id in ids[start : start + MAX_IDS]]
            codes += [LeaseStatus(code) for code in self._run(name, queue, *packed)]
        return codes
