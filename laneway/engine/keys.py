"""Every key name of the engine, in one place.

A queue is a fixed set of keys under one hash tag, so that it lies in one slot, can expire whole and be
deleted at once. The scripts get the queue's prefix as their key and ask for `q.<name>`, so a name that
is not in `NAMES` exists nowhere.
"""

from __future__ import annotations

NAMES = (
    "messages",  # hash: id -> record (envelope.py)
    "ready",  # zset: id by score, the strict order of delivery
    "scheduled",  # zset: id by due time (ms)
    "held",  # zset, lexicographic: ordering key + place + id, waiting behind the head of its key
    "heads",  # hash: ordering key -> id of the one message of it that is ready, scheduled or leased
    "leased",  # zset: id by the end of its lease (ms)
    "deliveries",  # hash: id -> deliveries, flags, score and the lease's token; only while there is one of them
    "dead",  # zset: id by the time it was buried (ms)
    "burials",  # hash: id -> reason, error, deliveries
    "cancelled",  # hash: id of a leased message that was cancelled -> when (ms)
    "tasks",  # zset, lexicographic: task id + sequence + id, of messages whose id is not their task id
    "unique",  # hash: uniqueness key -> task id that holds it
    "unique_until",  # zset: uniqueness key by the end of its hold (ms), where there is an end
    "attempts",  # hash: id -> attempts begun, and whether the last one runs
    "verdicts",  # hash: id of a leased message whose attempt is over -> what its ack does with it
    "journal",  # stream: what happened, for whoever keeps the history
    "limits",  # hash: paused, max_size, max_in_flight, interval, burst, tat (the bucket), max_deliveries, journal, ...
    "counters",  # hash: sequence, put, delivered, acked, released, expired, buried, cancelled, ...
    "bell",  # zset: one member wakes one consumer blocked in BZPOPMIN
)

ROOT = "laneway"


def prefix(queue: str) -> bytes:
    """What all keys of this queue begin with; the braces keep them in one slot of a cluster."""
    return f"{ROOT}:{{{queue}}}".encode()


def key(queue: str, name: str) -> bytes:
    """One key of a queue; `name` is one of `NAMES`."""
    if name not in NAMES:
        raise ValueError(name)
    return prefix(queue) + b":" + name.encode()


def bell(queue: str) -> bytes:
    """The key on which an idle consumer of this queue blocks."""
    return prefix(queue) + b":bell"


def bindings(exchange: str) -> bytes:
    """Set of [routing key, pattern, queue] in JSON: what is bound to an exchange that is not a fanout."""
    return f"{ROOT}:bindings:{exchange}".encode()


def fanout(exchange: str) -> bytes:
    """The Pub/Sub channel of a fanout exchange."""
    return f"{ROOT}:fanout:{exchange}".encode()


def queue_of(key: bytes) -> str:
    """The queue to which a key belongs."""
    return key[len(ROOT) + 2 : key.rindex(b"}")].decode()
