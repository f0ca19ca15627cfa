"""Messages that a consumer does not know, and hands on to another one."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from laneway.engine import (
    AckAction,
    Delivery,
    Engine,
    EventKind,
    HandOn,
    LeaseStatus,
    Limits,
    Message,
    MessageState,
    RoundRobin,
    StrayKind,
)
from laneway.engine.engine import FIRST_HAND_ON, LONGEST_HAND_ON
from laneway.engine.url import make_pool
from tests.laneway.engine.clock import CLOCK_LUA, NOW_MS, move_to

QUEUE = "work"
HOUR = 3600.0
OTHERS_FIRST = 2.0
"""Seconds for which a consumer leaves a message that it has handed on to others (`fetch.lua`)."""
HOW = HandOn(HOUR, "unregistered", "No worker knows the task.", '{"text": "handed on"}')


def put(engine: Engine, *ids: str, key: str | None = None) -> None:
    engine.put_many(QUEUE, [Message(task_id=id, id=id, key=key) for id in ids])


def fetch(engine: Engine, n: int = 10) -> list[Delivery]:
    return engine.fetch(RoundRobin({QUEUE: 1}), n).deliveries


def ids(deliveries: list[Delivery]) -> list[str]:
    return [held.id for held in deliveries]


@pytest.fixture
def other(still: Engine, engine_url: str) -> Generator[Engine]:
    """Another consumer."""
    engine = Engine(make_pool(engine_url), clock=CLOCK_LUA)
    yield engine
    engine.close()


def test_another_consumer_gets_it_at_once_in_its_old_place(still: Engine, other: Engine) -> None:
    put(still, "a", "b")
    (held,) = fetch(still, 1)
    assert still.hand_on([held], HOW) == [LeaseStatus.DONE]
    found = still.find_many(QUEUE, ["a"])[0]
    assert found is not None
    assert (found.handed_on, found.attempts, found.state) == (1, 0, MessageState.SCHEDULED)
    delivered = fetch(other)
    assert [(each.id, each.deliveries) for each in delivered] == [("a", 1), ("b", 1)]


def wait_for_it(engine: Engine, now: float) -> tuple[Delivery, float]:
    """Fetch whenever the engine says so, as an idle consumer does; returns the next delivery and its time."""
    for _ in range(3):  # more would be a circle
        batch = engine.fetch(RoundRobin({QUEUE: 1}), 10, idle_poll_ms=60_000)
        if batch.deliveries:
            return batch.deliveries[0], now
        assert batch.again_at is not None
        assert batch.again_at > now + NOW_MS
        now = batch.again_at - NOW_MS
        move_to(engine, now)
    raise AssertionError("never delivered")


def test_it_comes_back_later_and_later_and_no_delivery_counts(still: Engine) -> None:
    still.limit(QUEUE, Limits(max_deliveries=2))
    put(still, "a")
    (held,), now, delays = fetch(still), 0.0, list[float]()
    for _ in range(10):
        assert held.deliveries == 1
        assert still.hand_on([held], HOW) == [LeaseStatus.DONE]
        held, then = wait_for_it(still, now)
        delays.append((then - now) / 1000 - OTHERS_FIRST)
        now = then
    assert delays[:5] == [0, FIRST_HAND_ON, 1.0, 2.0, 4.0]
    assert delays[-1] == LONGEST_HAND_ON
    assert still.stats([QUEUE])[0].counters["handed_on"] == 10


def test_other_messages_pass(still: Engine) -> None:
    put(still, "a", "b")
    (held,) = fetch(still, 1)
    still.hand_on([held], HOW)
    (passing,) = fetch(still)
    assert passing.id == "b"
    still.release([passing], counted=False)
    move_to(still, OTHERS_FIRST * 1000)
    assert ids(fetch(still)) == ["a", "b"]


def test_a_scheduled_message_behind_it_is_delivered_when_it_is_due(still: Engine) -> None:
    still.put_many(QUEUE, [Message(task_id="a", id="a"), Message(task_id="b", id="b", eta_ms=NOW_MS + 1000)])
    still.hand_on(fetch(still), HOW)
    batch = still.fetch(RoundRobin({QUEUE: 1}), 10, idle_poll_ms=60_000)
    assert batch.again_at == NOW_MS + 1000
    move_to(still, 1000)
    assert ids(fetch(still)) == ["b"]


def test_many_consumers_that_do_not_know_it_let_it_wait(still: Engine, engine_url: str) -> None:
    put(still, "a")
    for _ in range(32):
        consumer = Engine(make_pool(engine_url), clock=CLOCK_LUA)
        assert consumer.hand_on(fetch(consumer), HOW) == [LeaseStatus.DONE]
        consumer.close()
    still.hand_on(fetch(still), HOW)
    last = Engine(make_pool(engine_url), clock=CLOCK_LUA)
    assert fetch(last) == []
    move_to(still, FIRST_HAND_ON * 1000)
    assert ids(fetch(last)) == ["a"]
    last.close()


def test_a_queue_without_such_messages_forgets_that_it_had_some(still: Engine, other: Engine) -> None:
    put(still, "a")
    still.hand_on(fetch(still), HOW)
    other.ack(fetch(other))
    assert "handed_on" in still.stats([QUEUE])[0].limits
    fetch(still)
    assert "handed_on" not in still.stats([QUEUE])[0].limits


def test_later_messages_of_its_ordering_key_wait_for_it(still: Engine) -> None:
    put(still, "a", "b", key="k")
    still.hand_on(fetch(still), HOW)
    assert fetch(still) == []
    move_to(still, OTHERS_FIRST * 1000)
    (held,) = fetch(still)
    assert held.id == "a"
    still.ack([held])
    assert ids(fetch(still)) == ["b"]


def test_after_the_longest_time_it_is_a_dead_letter_that_can_be_requeued(still: Engine) -> None:
    put(still, "a")
    still.hand_on(fetch(still), HOW)
    move_to(still, HOUR * 1000 - 1)
    (held,) = fetch(still)
    assert still.hand_on([held], HOW) == [LeaseStatus.DONE]
    move_to(still, HOUR * 1000 + LONGEST_HAND_ON * 1000)
    (held,) = fetch(still)
    assert still.hand_on([held], HOW) == [LeaseStatus.BURIED]

    (dead,) = still.peek(QUEUE, MessageState.DEAD)
    assert dead.dead_info is not None
    assert (dead.dead_info.reason, dead.dead_info.error) == ("unregistered", "No worker knows the task.")
    assert still.requeue(QUEUE, ["a"]) == [LeaseStatus.DONE]
    (held,) = fetch(still)
    assert still.hand_on([held], HOW) == [LeaseStatus.DONE], "its time begins again"


@pytest.mark.parametrize("end", ["ack", "purge", "bury", "finish"])
def test_nothing_is_kept_of_a_message_that_has_ended(still: Engine, end: str) -> None:
    put(still, "a")
    still.hand_on(fetch(still), HOW)
    move_to(still, 10_000)
    key = still.keys.key(QUEUE, "handed_on")
    assert still.runner.call("HLEN", key) == 1
    if end == "purge":
        still.purge(QUEUE)
    else:
        (held,) = fetch(still)
        if end == "bury":
            still.bury([held], reason="rejected")
        if end == "finish":
            still.start_attempt(held.lease, worker="w")
            still.finish_attempt(held.lease, AckAction.DONE)
        still.ack([held])
    assert still.runner.call("HLEN", key) == 0
    assert still.runner.call("HLEN", still.keys.key(QUEUE, "attempts")) == 0


def test_its_time_begins_again_after_an_attempt_that_is_retried(still: Engine) -> None:
    put(still, "a")
    still.hand_on(fetch(still), HOW)
    move_to(still, 10_000)
    (held,) = fetch(still)
    assert still.start_attempt(held.lease, worker="w")[:2] == (LeaseStatus.DONE, 1), "no attempt was counted before"
    still.finish_attempt(held.lease, AckAction.RETRY)
    still.ack([held])
    move_to(still, 2 * HOUR * 1000)
    assert still.hand_on(fetch(still), HOW) == [LeaseStatus.DONE]


def test_a_cancelled_message_is_deleted(still: Engine) -> None:
    put(still, "a")
    (held,) = fetch(still)
    still.cancel(QUEUE, "a")
    assert still.hand_on([held], HOW) == [LeaseStatus.CANCELLED]
    assert still.stats([QUEUE])[0].waiting == 0


def test_a_lost_lease_changes_nothing(still: Engine) -> None:
    put(still, "a")
    (held,) = fetch(still)
    move_to(still, 60_000)
    (again,) = fetch(still)
    assert still.hand_on([held], HOW) == [LeaseStatus.STALE]
    assert still.ack([again]) == [LeaseStatus.DONE]


def test_the_journal_has_one_line_of_it(still: Engine) -> None:
    still.enable_journal(QUEUE, 1000)
    put(still, "a")
    for second in range(3):
        move_to(still, second * 10_000)
        still.hand_on(fetch(still), HOW)
    events = still.read_journal(QUEUE, after="0-0").events
    assert [event.outcome for event in events if event.kind is EventKind.LOG] == ['{"text": "handed on"}']


def test_what_an_earlier_version_leaves_is_found_and_deleted(still: Engine) -> None:
    put(still, "a")
    still.hand_on(fetch(still), HOW)
    for name in ("messages", "scheduled", "attempts"):
        still.runner.call("DEL", still.keys.key(QUEUE, name))
    assert [(stray.kind, stray.id) for stray in still.find_strays(QUEUE, repair=True)] == [(StrayKind.REFERENCE, "a")]
    assert list(still.find_strays(QUEUE, repair=True)) == []
