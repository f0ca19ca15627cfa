"""Reads the whole state of a queue from the server and from the model, in one form, and compares the two."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from laneway.engine import Engine, Event, MessageState, PutCode, PutResult
from laneway.engine.keys import NAMES
from laneway.engine.limit_waits import LimitWait
from laneway.engine.message import decode, unpack_id
from tests.laneway.engine.model_flow import ModelFlow
from tests.laneway.engine.model_queue import WAITING, ExpectedEvent, ModelMessage, ModelQueue

NO_KEY, NO_EXPIRY = -2, -1  # replies of PTTL
_HASHES = (
    "messages",
    "heads",
    "deliveries",
    "dead_info",
    "cancelled",
    "unique",
    "limits",
    "counters",
    "attempts",
    "ack_actions",
    "handed_on",
    "limited_in",
    "ranks",
    "slots",
)
_INTERNAL_LIMITS = (b"ranks", b"tenants", b"slots", b"lines")


def server_dump(engine: Engine, name: str) -> dict[str, Any]:
    """Read every key of the queue, and decode what it holds."""
    raw = _read_keys(engine, name)
    events = engine.events(name, limit=10_000)
    until = {unique: float(at) for unique, at in raw["unique_until"]}
    counters = {field.decode(): int(value) for field, value in raw["counters"] if field != b"recorded"}
    return {
        "messages": {unpack_id(id): decode(id, record) for id, record in raw["messages"]},
        "ready": [unpack_id(id) for id, _ in raw["ready"]],
        "scheduled": _ids_and_times(raw["scheduled"]),
        "held": [_id_of_member(member) for member, _ in raw["held"]],
        "heads": {head.decode(): unpack_id(id) for head, id in raw["heads"]},
        "leased": _ids_and_times(raw["leased"]),
        "limited": [_id_of_member(member) for member, _ in raw["limited"]],
        "limited_in": {unpack_id(id) for id, _ in raw["limited_in"]},
        "lines": {line.decode(): int(float(at)) for line, at in raw["lines"]},
        "ranks": {unpack_id(id): int(rank) for id, rank in raw["ranks"]},
        "slots": {unpack_id(id) for id, _ in raw["slots"]},
        "deliveries": {unpack_id(id): int.from_bytes(value[:2], "big") for id, value in raw["deliveries"]},
        "dead": _ids_and_times(raw["dead"]),
        "dead_info": {unpack_id(id): _dead_info(value) for id, value in raw["dead_info"]},
        "cancelled": {unpack_id(id) for id, _ in raw["cancelled"]},
        "tasks": sorted(_id_of_member(member) for member, _ in raw["tasks"]),
        "unique": {unique.decode(): (unpack_id(task), until.pop(unique, None)) for unique, task in raw["unique"]},
        "left_until": until,
        "withdrawn": {unpack_id(task): int(version) for task, version in raw["withdrawn"]},
        "sequence": counters.pop("sequence", 0),
        "counters": counters,
        "limits": {field.decode(): int(value) for field, value in raw["limits"] if field not in _INTERNAL_LIMITS},
        "attempts": {unpack_id(id): struct.unpack(">HB", value[:3]) for id, value in raw["attempts"]},
        "ack_actions": {unpack_id(id): struct.unpack(">Bd", value) for id, value in raw["ack_actions"]},
        "handed_on": {unpack_id(id): struct.unpack(">dHH", value[:12]) for id, value in raw["handed_on"]},
        "journal": [_expected_event(event) for event in events],
        "events": events,
    }


def model_dump(q: ModelQueue) -> dict[str, Any]:
    """The same of the model."""
    messages = q.messages.values()
    return {
        "messages": {m.id: (m.message, m.score) for m in messages},
        "ready": [m.id for m in q.in_states(MessageState.READY)],
        "scheduled": [(m.id, m.at) for m in q.in_states(MessageState.SCHEDULED)],
        "held": [m.id for m in q.in_states(MessageState.HELD)],
        "heads": {m.message.key: m.id for m in messages if m.message.key and m.is_head},
        "leased": [(m.id, m.at) for m in q.in_states(MessageState.LEASED)],
        "limited": [m.id for m in q.in_states(MessageState.LIMITED)],
        "limited_in": {m.id for m in q.in_states(MessageState.LIMITED)},
        "lines": {"\0".join(line): at for line, at in q.lines.items()},
        "ranks": {m.id: m.rank for m in messages if m.rank is not None},
        "slots": {m.id for m in messages if m.slots},
        "deliveries": {
            m.id: m.deliveries
            for m in messages
            if m.state is not MessageState.DEAD and (m.deliveries or m.state is MessageState.LEASED)
        },
        "dead": [(m.id, m.at) for m in q.in_states(MessageState.DEAD)],
        "dead_info": {m.id: m.dead_info for m in messages if m.state is MessageState.DEAD},
        "cancelled": {m.id for m in messages if m.cancelled},
        "tasks": sorted(m.id for m in messages if m.id != m.message.task_id),
        "unique": {key: (task, None if at == float("inf") else at) for key, (task, at) in q.unique.items()},
        "left_until": {},
        "withdrawn": q.withdrawn,
        "sequence": q.sequence,
        "counters": q.counters,
        "limits": q.limits,
        "attempts": {m.id: (m.attempts.started, m.attempts.running) for m in messages if m.attempts},
        "ack_actions": {m.id: m.ack_action for m in messages if m.ack_action},
        "handed_on": {m.id: (m.hand_ons.first, m.hand_ons.times, m.hand_ons.rounds) for m in messages if m.hand_ons},
        "journal": [
            replace(event, stored=(_comparable(event.stored[0], event.id), event.stored[1]) if event.stored else None)
            for event in q.journal
        ],
    }


def assert_same(engine: Engine, name: str, q: ModelQueue) -> dict[str, Any]:
    """Compare the two. Check on the server alone that each message is in one state and accounted for.

    Returns what the server has.
    """
    real, expected = server_dump(engine, name), model_dump(q)
    for id, stored in real["messages"].items():
        real["messages"][id] = (_comparable(stored.message, id), stored.score)
    expected["messages"] = {
        id: (_comparable(message, id), score) for id, (message, score) in expected["messages"].items()
    }
    for part, value in expected.items():
        assert real[part] == value, f"{name}.{part}: server {real[part]} is not {value}"
    timed = [id for id, _ in (*real["scheduled"], *real["leased"], *real["dead"])]
    assert sorted(timed + real["ready"] + real["held"] + real["limited"]) == sorted(real["messages"]), (
        "each message is in one state"
    )
    ended = sum(real["counters"].get(end, 0) for end in ("acked", "cancelled", "purged", "discarded", "forgotten"))
    assert list(engine.find_strays(name)) == [], "no message is in no state, and no reference leads nowhere"
    accepted = real["counters"].get("put", 0)
    assert accepted == len(real["messages"]) + ended, "each accepted message is in the queue or accounted for"
    assert len(q.in_states(*WAITING)) == len(real["scheduled"]) + len(real["ready"]) + len(
        real["held"] + real["limited"]
    )
    return real


def assert_expiring(engine: Engine, name: str, *, expires: bool) -> None:
    """Check that every key of a queue that expires has an expiry, and no key of any other queue.

    Only `withdrawn` may expire in any queue.
    """
    ttls: list[int] = engine.runner.pipeline([("PTTL", engine.keys.key(name, part)) for part in NAMES])
    existing = {part: ms for part, ms in zip(NAMES, ttls, strict=True) if ms != NO_KEY}
    if not expires:
        existing.pop("withdrawn", None)
    wrong = {part for part, ms in existing.items() if (ms != NO_EXPIRY) is not expires}
    assert not wrong, f"{name}: {sorted(wrong)} {'do not expire' if expires else 'expire'}, unlike the queue"


def _read_keys(engine: Engine, name: str) -> dict[str, list[tuple[bytes, bytes]]]:
    """Fields and values of each hash, members and scores of each sorted set."""
    parts = [part for part in NAMES if part not in ("wakeup", "journal", "label_lines")]
    commands = [
        ("HGETALL", engine.keys.key(name, part))
        if part in _HASHES
        else ("ZRANGE", engine.keys.key(name, part), 0, -1, "WITHSCORES")
        for part in parts
    ]
    replies: list[list[bytes]] = engine.runner.pipeline(commands)
    return {part: list(zip(reply[::2], reply[1::2], strict=True)) for part, reply in zip(parts, replies, strict=True)}


def _ids_and_times(members: list[tuple[bytes, bytes]]) -> list[tuple[str, int]]:
    return [(unpack_id(id), int(float(at))) for id, at in members]


def _id_of_member(member: bytes) -> str:
    return unpack_id(member[member[0] + 10 :])


def _expected_event(event: Event) -> ExpectedEvent:
    stored = event.stored
    return ExpectedEvent(
        kind=event.kind,
        task=event.task_id,
        id=event.message_id,
        attempt=event.attempt,
        worker=event.worker,
        ack_action=event.ack_action,
        delay_ms=event.delay_ms,
        outcome=event.outcome,
        reason=event.reason,
        detail=event.detail,
        stored=(_comparable(stored.message, event.message_id), stored.score) if stored else None,
    )


def _comparable(message: Any, id: str) -> tuple[Any, ...]:
    """The fields of a message with the id under which it is stored: the model's message may have none yet."""
    return (
        message.task_id,
        message.name,
        message.body,
        message.priority,
        message.key,
        message.eta_ms,
        message.unique,
        message.max_deliveries,
        message.body_known,
        message.flow,
        id,
    )


def put_detail(put: PutResult) -> str | None:
    """What the model returns beside the code of a put."""
    if put.code in (PutCode.FULL, PutCode.JOURNAL_FULL):
        return str(put.size)
    return put.existing if put.code is PutCode.DUPLICATE else put.id


def _dead_info(value: bytes) -> tuple[int, str, str]:
    end = 3 + value[2]
    return int.from_bytes(value[:2], "big"), value[3:end].decode(), value[end:].decode()


def assert_limit_waits(engine: Engine, model: ModelFlow, queue: str) -> None:
    """What the first and the last message that wait are told of their limits is what the model knows."""
    q = model.queues[queue]
    waiting = q.in_states(MessageState.LIMITED)
    for m in {each.id: each for each in (*waiting[:1], *waiting[-1:])}.values():
        waits = engine.limit_waits(queue, m.id)
        if m.line is None or m.line[0].startswith("\1"):
            assert waits == []
            continue
        own, *lines = [model.line_of(q, m.line), *(model.line_of(each, m.line) for each in _others(model, queue))]
        place = own.index(m)
        ahead = place + sum(min(len(line), place) for line in lines)
        assert ((waits[0].name, waits[0].key), waits[0].ahead) == (m.line, ahead)
        assert {(wait.name, wait.key) for wait in waits} == {*_uses(model, q, m), m.line}
        for wait in waits:
            _assert_stands(wait, model)


def _assert_stands(wait: LimitWait, model: ModelFlow) -> None:
    assert wait.running == model.running(wait.name, wait.key)
    if not wait.ahead and not model.has_clock_gone_back(wait.name, wait.key):
        opens = model.opens_at(wait.name, wait.key, wait.points)
        assert (wait.is_full or bool(wait.opens_at)) is (opens is not None)


def _others(model: ModelFlow, queue: str) -> list[ModelQueue]:
    return [q for name, q in model.queues.items() if name != queue]


def _uses(model: ModelFlow, q: ModelQueue, m: ModelMessage) -> set[tuple[str, str]]:
    return {(use.name, use.key) for use in model.uses_of(q, m)}
