"""A fetch leases a bounded number of bytes, but always at least one message."""

from __future__ import annotations

import pytest

from laneway.engine import Engine, Limits, Message, RoundRobin, Unique
from laneway.engine.message import FETCH_BYTES, LARGE

SIZE = 500_000
"""Bytes of a large message: four of them fill a fetch."""


def put(engine: Engine, queue: str, n: int, size: int, *, key: str | None = None, unique: bool = False) -> None:
    for number in range(n):
        task = f"{queue}-{size}-{number}"
        engine.put(queue, Message(task_id=task, body=b"x" * size, key=key, unique=Unique(task) if unique else None))


def sizes(engine: Engine, round_robin: RoundRobin, n: int = 256) -> list[int]:
    batch = engine.fetch(round_robin, n)
    engine.ack(batch.deliveries)
    return [len(delivery.record) for delivery in batch.deliveries]


@pytest.mark.parametrize("unique", [False, True])
def test_a_fetch_of_large_messages_stops_at_the_bound_and_the_next_one_goes_on(engine: Engine, unique: bool) -> None:
    put(engine, "q", 9, SIZE, unique=unique)
    round_robin, fetched = RoundRobin({"q": 1}), 0
    while fetched < 9:
        part = sizes(engine, round_robin)
        assert 0 < sum(part) < FETCH_BYTES + 1.1 * SIZE
        fetched += len(part)


def test_a_message_that_is_larger_than_the_bound_is_delivered_alone(engine: Engine) -> None:
    put(engine, "q", 2, FETCH_BYTES + 1)
    put(engine, "q", 1, 10)
    round_robin = RoundRobin({"q": 1})
    assert [len(sizes(engine, round_robin)) for _ in range(3)] == [1, 1, 1]


def test_a_fetch_that_stopped_at_the_bound_asks_for_the_next_one_and_wakes_another_consumer(engine: Engine) -> None:
    put(engine, "q", 6, SIZE)
    engine.runner.call("DEL", engine.keys.wakeup("q"))
    batch = engine.fetch(RoundRobin({"q": 1}), 256, idle_poll_ms=1_000)
    assert batch.again_at == batch.now
    assert engine.runner.call("EXISTS", engine.keys.wakeup("q"))


def test_small_messages_are_not_held_up_by_a_queue_of_large_ones(engine: Engine) -> None:
    put(engine, "large", 10, SIZE)
    put(engine, "small", 40, 10)
    round_robin = RoundRobin({"large": 1, "small": 1})
    small = [sum(size < LARGE for size in sizes(engine, round_robin)) for _ in range(2)]
    assert all(small), "each fetch takes turns, although the large ones fill it"


def test_a_queue_without_large_messages_is_fetched_whole_and_its_sizes_are_not_looked_at(engine: Engine) -> None:
    put(engine, "q", 256, LARGE - 200)
    engine.runner.call("CONFIG", "RESETSTAT")
    assert len(sizes(engine, RoundRobin({"q": 1}))) == 256
    assert b"cmdstat_hstrlen" not in engine.runner.call("INFO", "commandstats")


def test_the_note_of_large_messages_is_no_limit_of_the_queue(engine: Engine) -> None:
    put(engine, "q", 1, SIZE)
    assert engine.stats(["q"])[0].limits == {}
    engine.limit("q", Limits(max_size=1_000))
    put(engine, "q", 7, SIZE + 1)
    assert len(sizes(engine, RoundRobin({"q": 1}))) < 8


def test_a_queue_of_large_messages_whose_records_are_damaged_stops_nobody(engine: Engine) -> None:
    put(engine, "damaged", 3, SIZE)
    put(engine, "sound", 1, 10)
    engine.runner.call("SET", engine.keys.key("damaged", "messages"), "garbage")
    assert sizes(engine, RoundRobin({"damaged": 1, "sound": 1}))
