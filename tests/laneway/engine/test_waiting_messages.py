"""Many messages are changed in one round trip; `machine_bulk` has the rules in every state."""

from __future__ import annotations

import pytest

from laneway.engine import Engine, LeaseStatus, Message, MessageState, RoundRobin
from laneway.engine.waiting_messages import cancel_many, reprioritise

QUEUE = "q"


def order(engine: Engine) -> list[str]:
    return [info.stored.message.task_id for info in engine.peek(QUEUE, MessageState.READY)]


def test_messages_keep_their_order_within_their_new_priority(engine: Engine) -> None:
    for number, priority in enumerate((3, 3, 3, 6)):
        engine.put(QUEUE, Message(task_id=f"t{number}", priority=priority, body=b"body"))
    assert reprioritise(engine, QUEUE, ["t2", "t1", "unknown"], priority=6) == [
        LeaseStatus.DONE,
        LeaseStatus.DONE,
        LeaseStatus.UNKNOWN,
    ]

    assert order(engine) == ["t1", "t2", "t3", "t0"]
    found = engine.find(QUEUE, "t1").stored.message
    assert (found.priority, found.body) == (6, b"body")


def test_a_leased_message_keeps_its_priority_also_when_it_comes_back(engine: Engine) -> None:
    engine.put_many(QUEUE, [Message(task_id="t0", priority=3), Message(task_id="t1", priority=3)])
    held = engine.fetch(RoundRobin({QUEUE: 1}), 1).deliveries
    assert reprioritise(engine, QUEUE, ["t0"], priority=0) == [LeaseStatus.UNKNOWN]
    engine.release(held)
    assert order(engine) == ["t0", "t1"]

    assert reprioritise(engine, QUEUE, ["t0"], priority=0) == [LeaseStatus.DONE]
    assert order(engine) == ["t1", "t0"]
    again = engine.fetch(RoundRobin({QUEUE: 1}), 2).deliveries
    engine.release(again)
    assert order(engine) == ["t1", "t0"]


def test_a_priority_that_no_message_can_have_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="from 0 to 9, not 10"):
        reprioritise(engine, QUEUE, ["t"], priority=10)


def test_many_tasks_are_cancelled_each_with_its_version(engine: Engine) -> None:
    engine.put_many(QUEUE, [Message(task_id="t0"), Message(task_id="t1")])
    (held,) = engine.fetch(RoundRobin({QUEUE: 1}), 1).deliveries
    results = cancel_many(engine, QUEUE, [("t0", None), ("t1", 5), ("t2", 5)])

    assert [(result.removed, result.marked, result.dead) for result in results] == [(0, 1, 0), (1, 0, 0), (0, 0, 0)]
    assert engine.ack([held]) == [LeaseStatus.CANCELLED]
    assert order(engine) == []
