"""The start of an attempt tells which call started the attempt before, whatever became of that one."""

from __future__ import annotations

import pytest

from laneway.engine import AckAction, Delivery, Engine, LeaseStatus, Message, RoundRobin
from laneway.engine.lease import HandOn
from tests.fixtures.waiting import wait_until

QUEUE = "q"
SHORT_MS = 20


def fetched(engine: Engine, *, lease_ms: int = 30_000) -> Delivery:
    """Fetch the only message as soon as it is ready."""
    lanes = RoundRobin({QUEUE: 1})
    (delivery,) = wait_until(lambda: engine.fetch(lanes, 1, lease_ms=lease_ms).deliveries, seconds=10)
    return delivery


def begun(engine: Engine, call: bytes, *, lease_ms: int = 30_000) -> tuple[Delivery, bytes]:
    """Fetch the message and start an attempt; returns the delivery, and the call of the attempt before."""
    delivery = fetched(engine, lease_ms=lease_ms)
    status, _, previous = engine.start_attempt(delivery.lease, worker="w", call=call)
    assert status is LeaseStatus.DONE
    return delivery, previous


@pytest.mark.parametrize("action", [AckAction.RETRY, AckAction.SNOOZE])
def test_an_attempt_after_a_retry_or_a_snooze_is_told_of_the_one_before(engine: Engine, action: AckAction) -> None:
    engine.put(QUEUE, Message(task_id="a"))
    first, before_first = begun(engine, b"call-one")
    engine.finish_attempt(first.lease, action)
    engine.ack([first])

    _, before_second = begun(engine, b"call-two")

    assert (before_first, before_second) == (b"", b"call-one")


def test_an_attempt_after_a_lost_worker_is_told_of_the_lost_one(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="a"))
    begun(engine, b"call-one", lease_ms=SHORT_MS)

    _, previous = begun(engine, b"call-two")

    assert previous == b"call-one"


def test_a_hand_on_between_two_attempts_loses_nothing(engine: Engine, engine_url: str) -> None:
    engine.put(QUEUE, Message(task_id="a"))
    first, _ = begun(engine, b"call-one")
    engine.finish_attempt(first.lease, AckAction.RETRY)
    engine.ack([first])
    engine.hand_on([fetched(engine)], HandOn(longest=60, reason="unknown", error="nobody knows it"))
    other = Engine.from_url(engine_url, owner="other")
    try:
        _, previous = begun(other, b"call-two")
    finally:
        other.close()

    assert previous == b"call-one"


def test_a_call_that_is_repeated_is_not_the_one_before_itself(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="a"))
    delivery, _ = begun(engine, b"call-one")

    assert engine.start_attempt(delivery.lease, worker="w", call=b"call-one") == (LeaseStatus.DONE, 1, b"")
