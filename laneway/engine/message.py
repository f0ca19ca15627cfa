"""The message, and its stored form.

A record is what `laneway:{q}:messages` holds for an id. It is written by `encode`, completed by the
server with the score (the place in `ready`), and read by `decode` and by `lib/record.lua`:

    score       8 bytes, big-endian double: (9 - priority) * SPAN + sequence; added by the server
    flags       1 byte: which of the optional fields follow
    priority    1 byte, 0-9
    [task]      length byte + packed id, when it is not the message's own id
    [key]       length byte + ordering key
    [unique]    mode byte, hold in ms (double, 0 = no end), length byte + uniqueness key
    [limit]     2 bytes: max_deliveries
    [eta]       double: due time in ms
    name        length byte + task name
    body        the rest

The sequence counts ticks of 10 microseconds since 2025 by the server's clock and never repeats in a
queue, so one number is both the place in line and the time of the put. Ids that are canonical UUIDs
are packed to 16 bytes; other ids are text, with one NUL appended if they happen to have that length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from laneway.engine.errors import InvalidMessage

EPOCH_MS = 1_735_689_600_000
"""2025-01-01 in ms since 1970: where sequences begin."""
TICKS_PER_MS = 100
SPAN = 900_000_000_000_000
"""Sequences stay below this (285 years), and ten priorities of it below 2^53, so that a score is an exact double."""
PRIORITIES = 10
MAX_TEXT = 255

_TASK, HAS_KEY, _UNIQUE, _LIMIT, _ETA = 1, 2, 4, 8, 16
_DOUBLE = struct.Struct(">d")
_PACKED_ID = 16


class UniqueMode(IntEnum):
    """How long a uniqueness key is held. `FOR_TIME` needs a ttl; for the others a ttl is an upper bound."""

    UNTIL_START = 1
    UNTIL_DONE = 2
    FOR_TIME = 3


@dataclass(frozen=True, slots=True)
class Unique:
    """At most one message with this key at a time; a second is refused with `DuplicateTask`."""

    key: str
    mode: UniqueMode = UniqueMode.UNTIL_DONE
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One piece of work. `eta_ms`: not before (ms since 1970); `priority`: 0-9, 9 first.

    With an `id` a repeated put is taken once, as long as the first one is in the queue. Without, the
    task id serves when it is free; a further message of the same task (a retry, a replacement) gets an
    id from the server and goes ahead of what waits behind its ordering key.
    """

    task_id: str
    name: str = ""
    body: bytes = b""
    id: str | None = None
    priority: int = 0
    key: str | None = None
    eta_ms: int | None = None
    unique: Unique | None = None
    max_deliveries: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the queue has it: with its id, its place and the time of its put (ms)."""

    id: str
    message: Message
    score: int

    @property
    def enqueued_at(self) -> int:
        """When it was put, or last requeued from the dead letters: ms since 1970 by the server's clock."""
        return self.time_of(self.score)

    @staticmethod
    def time_of(score: int) -> int:
        """The time of the put (ms) that a score holds."""
        return EPOCH_MS + score % SPAN // TICKS_PER_MS


def pack_id(id: str) -> bytes:
    """The stored form of an id: 16 bytes for a canonical UUID."""
    if len(id) == 36 and id[8] == "-":
        try:
            packed = bytes.fromhex(id.replace("-", ""))
        except ValueError:
            pass
        else:
            if len(packed) == _PACKED_ID and unpack_id(packed) == id:
                return packed
    raw = id.encode()
    return raw + b"\0" if len(raw) == _PACKED_ID else raw


def unpack_id(raw: bytes) -> str:
    """The id of which this is the stored form."""
    if len(raw) == _PACKED_ID:
        text = raw.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return raw.rstrip(b"\0").decode()


def encode(message: Message) -> tuple[bytes, bytes]:
    """The id argument of `put.lua` ("=id" or "?task id") and the record without its score. May raise InvalidMessage."""
    task = pack_id(message.task_id)
    own = task if message.id is None else pack_id(message.id)
    _check(message, own, task)
    flags, fields = 0, b""
    if own != task:
        flags, fields = _TASK, _text(task)
    if message.key is not None or message.unique or message.max_deliveries or message.eta_ms is not None:
        more, rest = _optional(message)
        flags, fields = flags | more, fields + rest
    name = message.name.encode()
    record = bytes((flags, message.priority)) + fields + bytes((len(name),)) + name + message.body
    return (b"?" + own if message.id is None else b"=" + own), record


def decode(raw_id: bytes, record: bytes) -> Stored:
    """The message of a complete record."""
    score = int(_DOUBLE.unpack_from(record)[0])
    flags, priority, at = record[8], record[9], 10
    task, key, unique, limit, eta = raw_id, None, None, None, None
    if flags:
        if flags & _TASK:
            task, at = _take(record, at)
        if flags & HAS_KEY:
            raw, at = _take(record, at)
            key = raw.decode()
        if flags & _UNIQUE:
            raw, end = _take(record, at + 9)
            unique = Unique(raw.decode(), UniqueMode(record[at]), int(_DOUBLE.unpack_from(record, at + 1)[0]))
            at = end
        if flags & _LIMIT:
            limit, at = int.from_bytes(record[at : at + 2], "big"), at + 2
        if flags & _ETA:
            eta, at = int(_DOUBLE.unpack_from(record, at)[0]), at + 8
    name, at = _take(record, at)
    id = unpack_id(raw_id)
    message = Message(
        task_id=id if task is raw_id else unpack_id(task),
        name=name.decode(),
        body=record[at:],
        id=id,
        priority=priority,
        key=key,
        eta_ms=eta,
        unique=unique,
        max_deliveries=limit,
    )
    return Stored(id, message, score)


def _optional(message: Message) -> tuple[int, bytes]:
    flags, fields = 0, b""
    if message.key is not None:
        flags, fields = HAS_KEY, _text(message.key.encode())
    if message.unique:
        flags |= _UNIQUE
        unique = message.unique
        fields += bytes((unique.mode,)) + _DOUBLE.pack(unique.ttl_ms) + _text(unique.key.encode())
    if message.max_deliveries:
        flags |= _LIMIT
        fields += message.max_deliveries.to_bytes(2, "big")
    if message.eta_ms is not None:
        flags |= _ETA
        fields += _DOUBLE.pack(message.eta_ms)
    return flags, fields


def _text(raw: bytes) -> bytes:
    return bytes((len(raw),)) + raw


def _take(record: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1 + record[at]
    return record[at + 1 : end], end


def _check(message: Message, own: bytes, task: bytes) -> None:
    if not 0 <= message.priority < PRIORITIES:
        raise InvalidMessage("priority", "must be 0 to 9")
    for field, raw in (("id", own), ("task id", task)):
        if not 0 < len(raw) <= MAX_TEXT:
            raise InvalidMessage(field, f"must have 1 to {MAX_TEXT} bytes")
    for field, text in (("id", message.id), ("task id", message.task_id)):
        if text is not None and "\0" in text:
            raise InvalidMessage(field, "must not contain NUL")
    if len(message.name) > MAX_TEXT or len(message.name.encode()) > MAX_TEXT:
        raise InvalidMessage("name", f"must have at most {MAX_TEXT} bytes")
    if message.key is not None and not 0 < len(message.key.encode()) <= MAX_TEXT:
        raise InvalidMessage("ordering key", f"must have 1 to {MAX_TEXT} bytes")
    if message.max_deliveries is not None and not 0 < message.max_deliveries < 65536:
        raise InvalidMessage("max_deliveries", "must be 1 to 65535")
    if message.unique:
        _check_unique(message.unique)


def _check_unique(unique: Unique) -> None:
    if not 0 < len(unique.key.encode()) <= MAX_TEXT:
        raise InvalidMessage("uniqueness key", f"must have 1 to {MAX_TEXT} bytes")
    if unique.ttl_ms < 0 or (unique.mode is UniqueMode.FOR_TIME and not unique.ttl_ms):
        raise InvalidMessage("uniqueness ttl", "must be positive")
