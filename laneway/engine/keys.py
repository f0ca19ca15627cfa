"""Every key name of the engine.

A queue is a fixed set of keys with one hash tag. So all of them are in one slot of a cluster, expire together, and are
deleted together. A script gets the prefix of the queue as its key, and builds `<prefix>:<name>` from `NAMES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from laneway.engine.errors import InvalidKeyPrefix

NAMES = (
    "messages",  # hash: id -> record (message.py)
    "ready",  # zset: id by score, the strict order of delivery
    "scheduled",  # zset: id by due time (ms)
    "held",  # zset, lexicographic: ordering key + order byte + sequence + id, waiting behind the head of its key
    "heads",  # hash: ordering key -> id of its one message that is ready, scheduled or leased
    "limited",  # zset, lexicographic: line + score + id, waiting for a limit or for a label (flow.lua)
    "limited_in",  # hash: id -> its member in limited
    "lines",  # zset: line of a limit by the time (ms) at which it is looked at
    "label_lines",  # set: lines of labels
    "leased",  # zset: id by the end of its lease (ms)
    "deliveries",  # hash: id -> deliveries, flags, score and token of the lease; only after the first delivery
    "set_aside",  # zset: id by the format of its record, of messages that only a newer version can read
    "dead",  # zset: id by the time it was buried (ms)
    "dead_info",  # hash: id -> deliveries, reason, error
    "cancelled",  # hash: id of a leased message whose task was cancelled -> when (ms)
    "withdrawn",  # zset: id of a task that was cancelled before it was put, by the version up to which it is refused
    "tasks",  # zset, lexicographic: task id + sequence + id, of messages whose id is not their task id
    "unique",  # hash: uniqueness key -> task id that holds it
    "unique_until",  # zset: uniqueness key by the end of its hold (ms), when the hold has an end
    "ranks",  # hash: id -> its rank in ready, of messages with a tenant or a deadline
    "tenants",  # zset: priority and tenant by the rank of its next message; priority alone: what was delivered last
    "slots",  # hash: id of a leased message -> the points of limits that it occupies
    "attempts",  # hash: id -> attempts started, whether the last one runs, the call that started it
    "ack_actions",  # hash: id of a leased message whose attempt is over -> what its ack does, delay (ms)
    "handed_on",  # hash: id of a message that consumers did not know -> since when (ms), how often, which consumers
    "journal",  # stream: what happened to the messages
    "limits",  # hash: paused, max_size, interval, burst, tat (rate limit), format, large (has had large ones), ...
    "counters",  # hash: sequence, put, delivered, acked, released, expired, buried, cancelled, ...
    "event_counts",  # hash: counter + NUL + label -> number of recorded events; counted: their last cursor
    "timekeepers",  # zset: idle consumer by the time (ms) at which it fetches, so that the others need not
    "wakeup",  # zset: its one member wakes one consumer that is blocked in BZPOPMIN
)

ROOT = "laneway"
TASK_LIMIT = "task:"
"""The limit of all runs of one task is this and the task's name."""
MAX_PREFIX = 200
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The keys of one application in one database.

    `key_prefix` comes before every key and channel, so that several applications can share a database (kombu's
    `global_keyprefix`). `database` is a part of the channels, because Redis shares them between databases. Raises
    InvalidKeyPrefix.
    """

    key_prefix: str = ""
    database: int = 0

    def __post_init__(self) -> None:
        prefix = cast("object", self.key_prefix)
        if not isinstance(prefix, str) or len(prefix.encode()) > MAX_PREFIX or set("{}") & set(prefix):
            raise InvalidKeyPrefix(prefix, MAX_PREFIX)

    def queue(self, queue: str) -> bytes:
        """The prefix of all keys of the queue. The braces keep them in one slot of a cluster."""
        return f"{self.key_prefix}{ROOT}:{{{queue}}}".encode()

    def key(self, queue: str, name: str) -> bytes:
        """A key of the queue. `name` is one of `NAMES`, else ValueError is raised."""
        if name not in NAMES:
            raise ValueError(name)
        return self.queue(queue) + b":" + name.encode()

    def wakeup(self, queue: str) -> bytes:
        """The key on which an idle consumer of the queue blocks."""
        return self.queue(queue) + b":wakeup"

    def label_wakeup(self, queue: str, label: str) -> bytes:
        """The key on which an idle consumer with this label blocks, too. It expires, and is not one of `NAMES`."""
        return self.wakeup(queue) + b":" + label.encode()

    def owner(self) -> bytes:
        """The key with the name of the application's installation to which all queues of the database belong."""
        return f"{self.key_prefix}{ROOT}:owner".encode()

    def quota(self, name: str) -> bytes:
        """The key of a counter of a quota."""
        return f"{self.key_prefix}{ROOT}:quota:{name}".encode()

    def bindings(self, exchange: str) -> bytes:
        """The key of the bindings of an exchange (not a fanout): a set of [routing key, pattern, queue] in JSON."""
        return f"{self.key_prefix}{ROOT}:bindings:{exchange}".encode()

    def fanout(self, exchange: str) -> bytes:
        """The Pub/Sub channel of a fanout exchange."""
        return f"{self.key_prefix}{ROOT}:fanout:{self.database}:{exchange}".encode()

    def exchange_of(self, channel: bytes) -> str:
        """The fanout exchange of a Pub/Sub channel."""
        return channel[len(self.fanout("")) :].decode()

    def queue_of(self, key: bytes) -> str:
        """The queue to which the key belongs."""
        return key[len(self.key_prefix.encode()) + len(ROOT) + 2 : key.rindex(b"}")].decode()
