"""What the replies of the scripts say of messages and queues, for `admin.py`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laneway.engine.flow_fields import LimitUse
from laneway.engine.journal import START
from laneway.engine.lease import Lease
from laneway.engine.message import Stored, decode, unpack_id
from laneway.engine.replies import DeadLetterInfo, MessageState, QueueStats

INTERNAL = ("newer", "large", "ranks", "tenants", "slots", "lines")
"""The fields of `limits` that say what the queue has had. They are no limits."""
_NUMBER = re.compile(rb"-?\d{1,18}")
_CURSOR = re.compile(rb"\d{1,16}-\d{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageInfo:
    """A message in a queue.

    `at`: due time, end of the lease, or when it was buried (ms since 1970); None when it is ready or held;
    when it is limited, when the queue looks at its line again, or None.
    `dead_info`: why it is a dead letter.

    `find` fills the following fields too; `peek` leaves them at their defaults. `position`: the index in ready, from 0.
    `lease`, and its `owner`. `cancelled`: its task was cancelled while it was leased. `behind`: the task at the head of
    the ordering key behind which it is held. `attempts`: how many were started. `finished`: the last one has finished,
    and the ack or the end of the lease carries its action out. `handed_on`: how often consumers that did not know it
    have handed it on, since its last attempt. `waits_for`: the limit and its key, or the labels, for which it waits.
    """

    stored: Stored
    state: MessageState
    deliveries: int
    at: int | None
    dead_info: DeadLetterInfo | None = None
    position: int | None = None
    owner: str | None = None
    cancelled: bool = False
    behind: str | None = None
    attempts: int = 0
    finished: bool = False
    lease: Lease | None = None
    handed_on: int = 0
    waits_for: LimitUse | tuple[str, ...] | None = None


def message_info(
    raw_id: bytes,
    record: bytes,
    deliveries: int,
    at: int | None,
    raw_dead_info: bytes | None,
    *,
    state: MessageState,
    **more: Any,
) -> MessageInfo:
    """Make a MessageInfo of the values that `peek.lua` and `find.lua` both return; `more`: its other fields."""
    dead_info = None
    if raw_dead_info is not None and at is not None:
        deliveries, dead_info = _read_dead_info(raw_dead_info, at)
    return MessageInfo(
        stored=decode(raw_id, record), state=state, deliveries=deliveries, at=at, dead_info=dead_info, **more
    )


def _read_dead_info(raw: bytes, at: int) -> tuple[int, DeadLetterInfo]:
    """Deliveries and reason in an entry of `dead_info`: 2 bytes deliveries, length byte, reason, error."""
    end = 3 + raw[2] if len(raw) > 2 else 3
    info = DeadLetterInfo(raw[3:end].decode(errors="replace"), raw[end:].decode(errors="replace"), at)
    return int.from_bytes(raw[:2], "big"), info


def found_message(
    queue: str,
    raw_id: bytes,
    record: bytes,
    deliveries: int,
    state: bytes,
    at: int | None,
    dead_info: bytes | None,
    position: int | None,
    token: bytes | None,
    cancelled: int,
    behind: bytes | None,
    attempts: int,
    finished: int,
    handed_on: int,
    line: bytes | None,
) -> MessageInfo:
    """Make a MessageInfo of a reply of `find.lua`."""
    return message_info(
        raw_id,
        record,
        deliveries,
        at,
        dead_info,
        state=MessageState(state.decode()),
        position=position,
        owner=token.decode(errors="replace").rsplit("/", 2)[0] if token else None,
        cancelled=bool(cancelled),
        behind=unpack_id(behind) if behind else None,
        attempts=attempts,
        finished=bool(finished),
        handed_on=handed_on,
        waits_for=_waits_for(line) if line else None,
        lease=Lease(queue, raw_id, token) if token else None,
    )


def queue_stats(
    queue: str,
    ready: int,
    scheduled: int,
    held: int,
    limited: int,
    leased: int,
    dead: int,
    set_aside: int,
    next_score: int | None,
    raw_limits: Sequence[bytes],
    counters: Sequence[bytes],
) -> QueueStats:
    """Make the stats of one queue from its part of a reply of `stats.lua`."""
    limits = numbers(raw_limits)
    for name in INTERNAL:
        limits.pop(name, None)
    return QueueStats(
        queue=queue,
        ready=ready,
        scheduled=scheduled,
        held=held,
        limited=limited,
        leased=leased,
        dead=dead,
        set_aside=set_aside,
        format=limits.pop("format", 0),
        oldest_at=None if next_score is None else Stored.time_of(next_score),
        paused=bool(limits.pop("paused", 0)),
        limits=limits,
        counters=numbers(counters),
    )


def is_text(key: bytes) -> bool:
    try:
        return bool(key.decode())
    except UnicodeDecodeError:
        return False


def cursor_of(reply: object) -> str:
    """The cursor in the field `recorded`. Another value is not read: somebody else has written it."""
    return reply.decode() if isinstance(reply, bytes) and _CURSOR.fullmatch(reply) else START


def numbers(flat: Sequence[bytes]) -> dict[str, int]:
    """The fields of a hash whose values are whole numbers."""
    fields = zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(errors="replace"): int(value) for name, value in fields if _NUMBER.fullmatch(value)}


def _waits_for(line: bytes) -> LimitUse | tuple[str, ...]:
    """The limit and key, or the labels, of a line (flow.lua)."""
    text = line.decode(errors="replace")
    if text.startswith("\1"):
        return tuple(text[1:].split(","))
    name, _, key = text.partition("\0")
    return LimitUse(name, key)
