"""Rules at their limits, on a clock that stands still: chance alone meets these cases too rarely."""

from __future__ import annotations

import pytest

from laneway.engine import (
    Engine,
    LeaseStatus,
    Limits,
    Message,
    MessageState,
    RoundRobin,
    Unique,
    UniqueMode,
    UnknownMessage,
)
from tests.laneway.engine.clock import NOW_MS, move_to

QUEUE = "work"


def fetch_ids(engine: Engine, n: int = 5, *, lease_ms: int = 1_000) -> list[str]:
    return [delivery.id for delivery in engine.fetch(RoundRobin({QUEUE: 1}), n, lease_ms=lease_ms).deliveries]


def test_a_scheduled_message_is_due_at_its_millisecond_and_not_before(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a", eta_ms=NOW_MS + 400))
    move_to(still, 399)
    assert fetch_ids(still) == []
    move_to(still, 400)
    assert fetch_ids(still) == ["a"]


def test_a_lease_ends_at_its_millisecond_and_not_before(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"))
    assert fetch_ids(still) == ["a"]
    move_to(still, 999)
    assert fetch_ids(still) == []
    move_to(still, 1_000)
    assert fetch_ids(still) == ["a"]


def test_a_dead_letter_can_be_requeued_once_the_other_tasks_hold_has_ended(still: Engine) -> None:
    unique = Unique("u", UniqueMode.UNTIL_DONE, ttl_ms=500)
    still.put(QUEUE, Message(task_id="a", unique=unique))
    still.bury(still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries, reason="test")
    still.put(QUEUE, Message(task_id="b", unique=unique))
    assert still.requeue(QUEUE, ["a"]) == [LeaseStatus.DUPLICATE]
    move_to(still, 500)
    assert still.requeue(QUEUE, ["a"]) == [LeaseStatus.DONE]


def test_a_retry_keeps_the_uniqueness_key_of_its_task(still: Engine) -> None:
    unique = Unique("u")
    still.put(QUEUE, Message(task_id="a", unique=unique))
    first = still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries
    still.put(QUEUE, Message(task_id="a", unique=unique))
    still.ack(first)
    refused = still.put_many(QUEUE, [Message(task_id="b", unique=unique)])[0]
    assert refused.existing == "a"
    still.ack(still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries)
    assert still.put(QUEUE, Message(task_id="b", unique=unique)) == "b"


def test_a_retry_goes_ahead_of_messages_held_behind_its_key(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a", key="k"))
    still.put(QUEUE, Message(task_id="b", key="k"))
    first = still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries
    retry = still.put(QUEUE, Message(task_id="a", key="k", eta_ms=NOW_MS + 300))
    still.ack(first)
    assert fetch_ids(still) == []
    move_to(still, 300)
    assert fetch_ids(still) == [retry]


def test_a_cancelled_message_whose_lease_expires_is_deleted_and_not_delivered(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"))
    assert fetch_ids(still) == ["a"]
    assert still.cancel(QUEUE, "a").marked == 1
    move_to(still, 1_000)
    assert fetch_ids(still) == []
    with pytest.raises(UnknownMessage, match="no message of task 'a'"):
        still.find(QUEUE, "a")


def test_a_discarded_dead_letter_leaves_nothing_behind(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"))
    still.bury(still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries, reason="test")
    assert still.discard(QUEUE, ["a"]) == [LeaseStatus.DONE]
    assert still.peek(QUEUE, MessageState.DEAD) == []
    assert still.put(QUEUE, Message(task_id="a", id="a")) == "a"
    assert fetch_ids(still) == ["a"]


def test_find_and_peek_describe_a_dead_letter_alike(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"))
    still.bury(still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries, reason="bad", error="no such file")
    found = still.find(QUEUE, "a")
    assert still.peek(QUEUE, MessageState.DEAD) == [found]
    assert found.dead_info is not None
    assert (found.dead_info.reason, found.dead_info.error, found.dead_info.at) == ("bad", "no such file", NOW_MS)
    assert (found.at, found.deliveries, found.position, found.lease) == (NOW_MS, 1, None, None)


def test_find_tells_position_owner_and_the_head_behind_which_a_message_is_held(still: Engine) -> None:
    still.put_many(QUEUE, [Message(task_id=id, key=key) for id, key in (("a", "k"), ("b", "k"), ("c", None))])
    a, b, c = still.find_many(QUEUE, ["a", "b", "c"])
    assert a is not None
    assert b is not None
    assert c is not None
    assert [(info.state, info.position, info.behind, info.at) for info in (a, b, c)] == [
        (MessageState.READY, 0, None, None),
        (MessageState.HELD, None, "a", None),
        (MessageState.READY, 1, None, None),
    ]
    (delivery,) = still.fetch(RoundRobin({QUEUE: 1}), 1, lease_ms=1_000).deliveries
    leased = still.find(QUEUE, "a")
    assert (leased.state, leased.at, leased.owner) == (MessageState.LEASED, NOW_MS + 1_000, still.owner)
    assert leased.lease == delivery.lease


def test_a_rate_limit_goes_on_after_the_servers_clock_went_back(still: Engine) -> None:
    still.throttle(QUEUE, Limits(rate=2, burst=2))
    still.put_many(QUEUE, [Message(task_id=f"t{number}") for number in range(6)])
    move_to(still, 600_000)
    assert len(fetch_ids(still)) == 2
    move_to(still, 0)
    assert fetch_ids(still) == []
    move_to(still, 500)
    assert len(fetch_ids(still)) == 1
    move_to(still, 1_000)
    assert len(fetch_ids(still)) == 1
