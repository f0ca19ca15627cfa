"""Rules at their edges, on a clock that stands still: what chance would meet too rarely."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from redis.connection import ConnectionPool

from laneway.engine import Engine, LeaseStatus, Message, MessageState, RoundRobin, Unique, UniqueMode, UnknownMessage
from tests.laneway.engine.clock import CLOCK_LUA, set_clock

QUEUE = "work"
NOW = 1_790_000_000_000


@pytest.fixture
def still(engine_url: str) -> Generator[Engine]:
    """An engine at NOW."""
    pool = ConnectionPool.from_url(engine_url)  # pyright: ignore[reportUnknownMemberType]
    engine = Engine(pool, clock=CLOCK_LUA)
    set_clock(engine, NOW * 1000)
    yield engine
    engine.close()


def at(engine: Engine, ms: int) -> None:
    set_clock(engine, (NOW + ms) * 1000)


def fetched(engine: Engine, n: int = 5, *, lease_ms: int = 1_000) -> list[str]:
    return [delivery.id for delivery in engine.fetch(RoundRobin({QUEUE: 1}), n, lease_ms=lease_ms).deliveries]


def test_a_scheduled_message_is_due_at_its_millisecond_and_not_before(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a", eta_ms=NOW + 400))
    at(still, 399)
    assert fetched(still) == []
    at(still, 400)
    assert fetched(still) == ["a"]


def test_a_lease_is_over_at_its_millisecond_and_not_before(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"))
    assert fetched(still) == ["a"]
    at(still, 999)
    assert fetched(still) == []
    at(still, 1_000)
    assert fetched(still) == ["a"]


def test_a_dead_letter_may_be_requeued_once_the_other_s_hold_has_ended(still: Engine) -> None:
    unique = Unique("u", UniqueMode.UNTIL_DONE, ttl_ms=500)
    still.put(QUEUE, Message(task_id="a", unique=unique))
    still.bury(still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries, reason="test")
    still.put(QUEUE, Message(task_id="b", unique=unique))
    assert still.requeue(QUEUE, ["a"]) == [LeaseStatus.DUPLICATE]
    at(still, 500)
    assert still.requeue(QUEUE, ["a"]) == [LeaseStatus.DONE]


def test_a_retry_carries_the_uniqueness_of_its_task_on(still: Engine) -> None:
    unique = Unique("u")
    still.put(QUEUE, Message(task_id="a", unique=unique))
    first = still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries
    still.put(QUEUE, Message(task_id="a", unique=unique))
    still.ack(first)
    outcome = still.put_many(QUEUE, [Message(task_id="b", unique=unique)])[0]
    assert outcome.existing == "a"
    still.ack(still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries)
    assert still.put(QUEUE, Message(task_id="b", unique=unique)) == "b"


def test_a_retry_goes_ahead_of_what_waits_behind_its_key(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a", key="k"))
    still.put(QUEUE, Message(task_id="b", key="k"))
    first = still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries
    retry = still.put(QUEUE, Message(task_id="a", key="k", eta_ms=NOW + 300))
    still.ack(first)
    assert fetched(still) == []
    at(still, 300)
    assert fetched(still) == [retry]


def test_a_cancelled_message_whose_lease_runs_out_is_dropped_and_not_delivered(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"))
    assert fetched(still) == ["a"]
    assert still.cancel(QUEUE, "a").marked == 1
    at(still, 1_000)
    assert fetched(still) == []
    with pytest.raises(UnknownMessage):
        still.find(QUEUE, "a")


def test_a_discarded_dead_letter_leaves_nothing_behind(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"))
    still.bury(still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries, reason="test")
    assert still.discard(QUEUE, ["a"]) == [LeaseStatus.DONE]
    assert still.peek(QUEUE, MessageState.DEAD) == []
    assert still.put(QUEUE, Message(task_id="a", id="a")) == "a"
    assert fetched(still) == ["a"]
