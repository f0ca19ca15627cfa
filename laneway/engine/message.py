"""A message, and the record in which the server stores it.

`laneway:{q}:messages` holds one record for each id. `encode` writes the record, the server puts the score (the order
in `ready`) before it, and `decode` and `lib/record.lua` read it:

    score       8 bytes, big-endian double: (9 - priority) * SPAN + sequence; added by the server
    flags       1 byte: which of the optional fields follow, and whether the journal leaves out the body
    priority    1 byte: the format in the upper 4 bits, the priority (0-9) in the lower
    [task]      length byte + packed task id; left out when the message's id is its task id
    [key]       length byte + ordering key
    [unique]    mode byte, hold in ms (double, 0 = no end), length byte + uniqueness key
    [limit]     2 bytes: max_deliveries
    [eta]       double: due time in ms
    [flow]      2 bytes length + JSON: limits `l`, tenant `t`, weight `w`, deadline `d` (ms), labels `n`
    name        length byte + task name
    body        the rest

A version that writes what earlier versions would misread raises `FORMAT`. They leave such a record alone, whatever it
contains behind score, flags, format and priority, whose places never change.

The sequence counts ticks of 10 microseconds since 2025 by the server's clock, and never repeats in a queue. So one
number gives both the order of the messages and the time when each was put. Ids that are canonical UUIDs are packed to
16 bytes. Other ids are stored as text. Text of 16 bytes gets a NUL appended, so that it is not taken for a packed UUID.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from laneway.engine.errors import InvalidMessage
from laneway.engine.flow_fields import Flow, check_flow, decode_flow, encode_flow

EPOCH_MS = 1_735_689_600_000
"""2025-01-01 in ms since 1970: sequence 0."""
TICKS_PER_MS = 100
SPAN = 900_000_000_000_000
"""Sequences stay below this for 285 years. Ten times this is below 2^53, so that a score is an exact double."""
PRIORITIES = 10
FORMAT = 1
"""The newest format of records that this version reads; 15 is the last one. A record has the lowest that fits."""
FORMAT_OF_FLOW = 1
"""The format of a record with the field `flow`. All others have the format 0."""
FORMAT_STEP = 16
QUEUE_FORMAT = 0
"""The newest format of a queue that this version uses. The limit `format` of a queue is its format; none means 0."""
MAX_TEXT = 255
FETCH_BYTES = 2 * 1024 * 1024
"""A fetch that has leased so many bytes of records leases no more. It blocks the server for about 7 ms per MB."""
LARGE = 8 * 1024
"""A record of more bytes is large. A fetch looks at the sizes only in queues that have had large messages."""

HAS_TASK, HAS_KEY, HAS_UNIQUE, HAS_LIMIT, HAS_ETA, HAS_FLOW = 1, 2, 4, 8, 16, 64
BODY_KNOWN = 32
_DOUBLE = struct.Struct(">d")
_PACKED_ID = 16


class UniqueMode(IntEnum):
    """When a uniqueness key is released. `FOR_TIME` needs a ttl; for the other modes the ttl is an upper bound."""

    UNTIL_START = 1
    UNTIL_DONE = 2
    FOR_TIME = 3


@dataclass(frozen=True, slots=True)
class Unique:
    """At most one task holds the key at a time. A message of another task is refused with `DuplicateTask`.

    `ttl_ms`: the key is released after this time; 0 means never.
    """

    key: str
    mode: UniqueMode = UniqueMode.UNTIL_DONE
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message: it asks for one run of a task.

    `priority`: 0-9, 9 is delivered first. `key`: the ordering key. `eta_ms`: the message is not delivered before this
    time (ms since 1970). `max_deliveries`: after this many deliveries it becomes a dead letter. `body_known`: the
    reader of the journal has the body, so the journal leaves it out. `flow`: limits, labels, tenant and
    deadline (`Flow`).

    A message with an `id` is not put again while the queue has a message with this id. Without an `id`, the message's
    id is its task id. If that id is taken, the message is a continuation of its task (a retry, a replacement). The
    server gives it another id. If its task is at the head of its ordering key, the message goes ahead of the other
    messages that are held behind the key.
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
    body_known: bool = False
    flow: Flow | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the queue stores it, with its id and its score. `newer`: only a newer version can read it."""

    id: str
    message: Message
    score: int
    newer: bool = False

    @property
    def enqueued_at(self) -> int:
        """When the message was put, or last requeued as a dead letter: ms since 1970 by the server's clock."""
        return self.time_of(self.score)

    @staticmethod
    def time_of(score: int) -> int:
        """The time, contained in the score, when a message was put (ms since 1970)."""
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
    """The id whose stored form this is."""
    if len(raw) == _PACKED_ID:
        text = raw.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return raw.rstrip(b"\0").decode(errors="replace")


def encode(message: Message) -> tuple[bytes, bytes]:
    """Return the id argument of `put.lua` and the record without its score. Raises InvalidMessage.

    The argument is "=id" for a message with an id, else "?task id": the server may then choose another id.
    """
    task = pack_id(message.task_id)
    own = task if message.id is None else pack_id(message.id)
    _check(message, own, task)
    if message.flow is not None:
        check_flow(message.flow)
    flags, fields = 0, b""
    if own != task:
        flags, fields = HAS_TASK, _text(task)
    if message.key is not None or message.unique or message.max_deliveries or message.eta_ms is not None:
        more, rest = _optional(message)
        flags, fields = flags | more, fields + rest
    format = 0
    if message.flow is not None:
        flags, fields, format = flags | HAS_FLOW, fields + encode_flow(message.flow), FORMAT_OF_FLOW
    if message.body_known:
        flags |= BODY_KNOWN
    name = message.name.encode()
    record = (
        bytes((flags, message.priority + FORMAT_STEP * format)) + fields + bytes((len(name),)) + name + message.body
    )
    return (b"?" + own if message.id is None else b"=" + own), record


def decode(raw_id: bytes, record: bytes) -> Stored:
    """The message in a record with its score.

    A record that cannot be read is a message without a name: its body is the record, so that nothing is lost.
    """
    try:
        return _decode(raw_id, record)
    except (ValueError, LookupError, ArithmeticError, struct.error):
        id = unpack_id(raw_id)
        return Stored(id, Message(task_id=id, id=id, body=record), 0, newer=_is_newer(record))


def _is_newer(record: bytes) -> bool:
    return len(record) > 9 and record[9] >= FORMAT_STEP * (FORMAT + 1)


def _decode(raw_id: bytes, record: bytes) -> Stored:
    score = int(_DOUBLE.unpack_from(record)[0])
    flags, priority, offset = record[8], record[9] % FORMAT_STEP, 10
    if _is_newer(record):
        raise ValueError("a newer format")
    task, key, unique, limit, eta, flow = raw_id, None, None, None, None, None
    if flags:
        if flags & HAS_TASK:
            task, offset = _take(record, offset)
        if flags & HAS_KEY:
            raw, offset = _take(record, offset)
            key = raw.decode()
        if flags & HAS_UNIQUE:
            raw, end = _take(record, offset + 9)
            ttl_ms = int(_DOUBLE.unpack_from(record, offset + 1)[0])
            unique = Unique(raw.decode(), UniqueMode(record[offset]), ttl_ms)
            offset = end
        if flags & HAS_LIMIT:
            limit, offset = int.from_bytes(record[offset : offset + 2], "big"), offset + 2
        if flags & HAS_ETA:
            eta, offset = int(_DOUBLE.unpack_from(record, offset)[0]), offset + 8
        if flags & HAS_FLOW:
            end = offset + 2 + int.from_bytes(record[offset : offset + 2], "big")
            flow, offset = decode_flow(record[offset + 2 : end]), end
    name, offset = _take(record, offset)
    id = unpack_id(raw_id)
    message = Message(
        task_id=id if task is raw_id else unpack_id(task),
        name=name.decode(),
        body=record[offset:],
        id=id,
        priority=priority,
        key=key,
        eta_ms=eta,
        unique=unique,
        max_deliveries=limit,
        body_known=bool(flags & BODY_KNOWN),
        flow=flow,
    )
    return Stored(id, message, score)


def _optional(message: Message) -> tuple[int, bytes]:
    """The flags and the bytes of the optional fields, which most messages do not have."""
    flags, fields = 0, b""
    if message.key is not None:
        flags, fields = HAS_KEY, _text(message.key.encode())
    if message.unique:
        flags |= HAS_UNIQUE
        unique = message.unique
        fields += bytes((unique.mode,)) + _DOUBLE.pack(unique.ttl_ms) + _text(unique.key.encode())
    if message.max_deliveries:
        flags |= HAS_LIMIT
        fields += message.max_deliveries.to_bytes(2, "big")
    if message.eta_ms is not None:
        flags |= HAS_ETA
        fields += _DOUBLE.pack(message.eta_ms)
    return flags, fields


def _text(raw: bytes) -> bytes:
    return bytes((len(raw),)) + raw


def _take(record: bytes, offset: int) -> tuple[bytes, int]:
    """The text at this offset, which begins with its length byte, and the offset after it."""
    end = offset + 1 + record[offset]
    return record[offset + 1 : end], end


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
