"""The whole state of a queue, read from the server and from the model in one shape."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from laneway.engine import Engine, Event, MessageState
from laneway.engine.keys import NAMES, key
from laneway.engine.message import decode, unpack_id
from tests.laneway.engine.books import WAITING, Noted, Queue

NO_KEY, NO_TIME = -2, -1  # answers of PTTL
_READS = {
    "messages": "HGETALL",
    "heads": "HGETALL",
    "deliveries": "HGETALL",
    "burials": "HGETALL",
    "cancelled": "HGETALL",
    "unique": "HGETALL",
    "limits": "HGETALL",
    "counters": "HGETALL",
    "attempts": "HGETALL",
    "ack_actions": "HGETALL",
}


def server_dump(engine: Engine, name: str) -> dict[str, Any]:
    """Read every key of the queue and put it in readable form."""
    names = [part for part in NAMES if part not in ("bell", "journal")]
    commands = [
        (_READS[part], key(name, part)) if part in _READS else ("ZRANGE", key(name, part), 0, -1, "WITHSCORES")
        for part in names
    ]
    replies: list[list[bytes]] = engine.runner.pipeline(commands)
    raw = {part: list(zip(reply[::2], reply[1::2], strict=True)) for part, reply in zip(names, replies, strict=True)}
    events = engine.events(name, limit=10_000)
    until = {unique: float(at) for unique, at in raw["unique_until"]}
    counters = {field.decode(): int(value) for field, value in raw["counters"]}
    return {
        "messages": {unpack_id(id): decode(id, record) for id, record in raw["messages"]},
        "ready": [unpack_id(id) for id, _ in raw["ready"]],
        "scheduled": [(unpack_id(id), int(float(at))) for id, at in raw["scheduled"]],
        "held": [unpack_id(member[member[0] + 10 :]) for member, _ in raw["held"]],
        "heads": {head.decode(): unpack_id(id) for head, id in raw["heads"]},
        "leased": [(unpack_id(id), int(float(at))) for id, at in raw["leased"]],
        "deliveries": {unpack_id(id): int.from_bytes(value[:2], "big") for id, value in raw["deliveries"]},
        "dead": [(unpack_id(id), int(float(at))) for id, at in raw["dead"]],
        "burials": {unpack_id(id): _burial(value) for id, value in raw["burials"]},
        "cancelled": {unpack_id(id) for id, _ in raw["cancelled"]},
        "tasks": sorted(unpack_id(member[member[0] + 10 :]) for member, _ in raw["tasks"]),
        "unique": {unique.decode(): (unpack_id(task), until.pop(unique, None)) for unique, task in raw["unique"]},
        "left_until": until,
        "sequence": counters.pop("sequence", 0),
        "counters": counters,
        "limits": {field.decode(): int(value) for field, value in raw["limits"]},
        "attempts": {unpack_id(id): struct.unpack(">HB", value[:3]) for id, value in raw["attempts"]},
        "ack_actions": {unpack_id(id): struct.unpack(">Bd", value) for id, value in raw["ack_actions"]},
        "journal": [_noted(event) for event in events],
        "events": events,
    }


def model_dump(q: Queue) -> dict[str, Any]:
    """The same of the model."""
    items = q.items.values()
    return {
        "messages": {item.id: (item.message, item.score) for item in items},
        "ready": [item.id for item in q.having(MessageState.READY)],
        "scheduled": [(item.id, item.at) for item in q.having(MessageState.SCHEDULED)],
        "held": [item.id for item in q.having(MessageState.HELD)],
        "heads": {
            item.message.key: item.id
            for item in items
            if item.message.key and item.state not in (MessageState.HELD, MessageState.DEAD)
        },
        "leased": [(item.id, item.at) for item in q.having(MessageState.LEASED)],
        "deliveries": {
            item.id: item.times
            for item in items
            if item.state is not MessageState.DEAD and (item.times or item.state is MessageState.LEASED)
        },
        "dead": [(item.id, item.at) for item in q.having(MessageState.DEAD)],
        "burials": {item.id: item.burial for item in items if item.state is MessageState.DEAD},
        "cancelled": {item.id for item in items if item.cancelled},
        "tasks": sorted(item.id for item in items if item.id != item.message.task_id),
        "unique": {key: (task, None if at == float("inf") else at) for key, (task, at) in q.unique.items()},
        "left_until": {},
        "sequence": q.sequence,
        "counters": q.counters,
        "limits": q.limits,
        "attempts": {item.id: (item.attempt.begun, item.attempt.running) for item in items if item.attempt},
        "ack_actions": {item.id: item.verdict for item in items if item.verdict},
        "journal": [
            replace(noted, stored=(_without_id(noted.stored[0], noted.id), noted.stored[1]) if noted.stored else None)
            for noted in q.journal
        ],
    }


def assert_same(engine: Engine, name: str, q: Queue) -> dict[str, Any]:
    """Compare the two, and check on the server alone that every message is in one place and accounted for.

    Returns what the server has.
    """
    real, expected = server_dump(engine, name), model_dump(q)
    for id, stored in real["messages"].items():
        real["messages"][id] = (_without_id(stored.message, id), stored.score)
    expected["messages"] = {
        id: (_without_id(message, id), score) for id, (message, score) in expected["messages"].items()
    }
    for part, value in expected.items():
        assert real[part] == value, f"{name}.{part}: server {real[part]} is not {value}"
    places = [id for id, _ in (*real["scheduled"], *real["leased"], *real["dead"])] + real["ready"] + real["held"]
    assert sorted(places) == sorted(real["messages"]), "each message is in exactly one place"
    gone = sum(real["counters"].get(end, 0) for end in ("acked", "cancelled", "purged", "discarded", "forgotten"))
    assert real["counters"].get("put", 0) == len(real["messages"]) + gone, (
        "each accepted message is here or accounted for"
    )
    assert len(q.having(*WAITING)) == len(real["scheduled"]) + len(real["ready"]) + len(real["held"])
    return real


def assert_expiring(engine: Engine, name: str, *, expires: bool) -> None:
    """Every key of a queue that expires has its time, and no other has."""
    left: list[int] = engine.runner.on_connection(
        lambda wire, _: wire.pipeline([("PTTL", key(name, part)) for part in NAMES])
    )
    there = {part: ms for part, ms in zip(NAMES, left, strict=True) if ms != NO_KEY}
    odd = {part for part, ms in there.items() if (ms != NO_TIME) is not expires}
    assert not odd, f"{name}: {sorted(odd)} {'live on' if expires else 'vanish'} while the rest does not"


def _noted(event: Event) -> Noted:
    stored = event.stored
    return Noted(
        kind=event.kind,
        task=event.task_id,
        id=event.message_id,
        attempt=event.attempt,
        worker=event.worker,
        verdict=event.ack_action,
        delay_ms=event.delay_ms,
        outcome=event.outcome,
        reason=event.reason,
        detail=event.detail,
        stored=(_without_id(stored.message, event.message_id), stored.score) if stored else None,
    )


def _without_id(message: Any, id: str) -> tuple[Any, ...]:
    return (
        message.task_id,
        message.name,
        message.body,
        message.priority,
        message.key,
        message.eta_ms,
        message.unique,
        message.max_deliveries,
        id,
    )


def _burial(value: bytes) -> tuple[int, str, str]:
    end = 3 + value[2]
    return int.from_bytes(value[:2], "big"), value[3:end].decode(), value[end:].decode()
