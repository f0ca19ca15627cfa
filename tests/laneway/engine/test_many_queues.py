"""A consumer of hundreds of queues: what a fetch costs the server, and that no queue starves."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import pairwise

import pytest

from laneway.engine import Engine, Limits, Message, MessageState, RoundRobin
from laneway.engine.watchlist import IDLE_PATROLS, MAX_PATROL, MIN_PATROL
from tests.laneway.engine.clock import NOW_MS, move_to

IDLE_POLL = 1_000
MOVES = 1_000
"""`BATCH` of the scripts."""


def names(n: int) -> list[str]:
    return [f"q{number}" for number in range(n)]


def consumer_of(queues: list[str], **weights: int) -> RoundRobin:
    return RoundRobin({queue: weights.get(queue, 1) for queue in queues})


def fetch(engine: Engine, consumer: RoundRobin, n: int = 64) -> list[str]:
    """The queues of the messages that a fetch has delivered."""
    batch = engine.fetch(consumer, n, idle_poll_ms=IDLE_POLL)
    engine.ack(batch.deliveries)
    return [delivery.queue for delivery in batch.deliveries]


def look_at_all(engine: Engine, consumer: RoundRobin) -> None:
    """Fetch until no queue is known to have work."""
    while (batch := engine.fetch(consumer, 64, idle_poll_ms=IDLE_POLL)).again_at == batch.now:
        pass


def jump_to(engine: Engine, consumer: RoundRobin, ms: int) -> None:
    """Move the server's time, and let the consumer learn of it: it reckons with its own clock until the next fetch."""
    move_to(engine, ms)
    engine.fetch(consumer, 0, idle_poll_ms=IDLE_POLL)


def fetches_until(engine: Engine, consumer: RoundRobin, wanted: set[str], *, at_most: int, n: int = 64) -> None:
    """Fetch until each of these queues has delivered something; fail after so many fetches."""
    for _ in range(at_most):
        wanted = wanted.difference(fetch(engine, consumer, n))
        if not wanted:
            return
    raise AssertionError(f"{len(wanted)} queues have delivered nothing in {at_most} fetches")


def commands_of(engine: Engine) -> int:
    """Commands that scripts have run since CONFIG RESETSTAT."""
    text: str = engine.runner.call("INFO", "commandstats").decode()
    rows = re.findall(r"^cmdstat_([\w|]+):calls=(\d+)", text, re.MULTILINE)
    return sum(int(calls) for name, calls in rows if name not in {"evalsha", "eval", "info", "config|resetstat"})


@pytest.mark.parametrize(("scheduled", "most"), [(0, 60), (1, 200)])
def test_an_idle_fetch_of_200_queues_runs_few_commands(engine: Engine, scheduled: int, most: int) -> None:
    queues = names(200)
    for queue in queues[: 200 * scheduled]:
        engine.put(queue, Message(task_id="t", eta_ms=4_000_000_000_000))
    consumer = consumer_of(queues)
    look_at_all(engine, consumer)
    engine.runner.call("CONFIG", "RESETSTAT")
    fetch(engine, consumer)
    assert commands_of(engine) <= most


@pytest.mark.parametrize("queues", [17, 256, 1_000, 10_000])
def test_what_waits_at_the_start_is_delivered_and_what_comes_later_too(engine: Engine, queues: int) -> None:
    chance, all_queues = random.Random(queues), names(queues)
    at_the_start, later, unannounced = (set(chance.sample(all_queues, 10)) for _ in range(3))
    for queue in at_the_start:
        engine.put(queue, Message(task_id="early"))
    consumer = consumer_of(all_queues)
    fetches_until(engine, consumer, at_the_start, at_most=queues // 50 + 10)
    look_at_all(engine, consumer)

    for queue in later:
        engine.put(queue, Message(task_id="later"))
        consumer.ring(queue)
    fetches_until(engine, consumer, later, at_most=2)

    for queue in unannounced:  # the consumer that was woken has died
        engine.put(queue, Message(task_id="unannounced"))
    fetches_until(engine, consumer, unannounced, at_most=max(IDLE_PATROLS, queues // MAX_PATROL) + 2)


def test_a_message_that_becomes_due_is_delivered_on_time_in_any_of_1000_queues(still: Engine) -> None:
    consumer = consumer_of(names(1_000))
    look_at_all(still, consumer)
    for number in range(0, 1_000, 25):
        still.put(f"q{number}", Message(task_id="t", eta_ms=NOW_MS + 600_000 + number))
        consumer.ring(f"q{number}")
    look_at_all(still, consumer)
    assert still.fetch(consumer, 1, idle_poll_ms=IDLE_POLL).again_at == NOW_MS + 600_000
    jump_to(still, consumer, 600_000)
    assert fetch(still, consumer) == ["q0"]
    jump_to(still, consumer, 601_000)
    fetches_until(still, consumer, {f"q{number}" for number in range(25, 1_000, 25)}, at_most=20)


@pytest.mark.parametrize("rung", [True, False])
def test_no_queue_starves_while_another_one_always_has_work(engine: Engine, rung: bool) -> None:
    queues = names(400)
    consumer = consumer_of(queues, q0=100)
    look_at_all(engine, consumer)
    engine.put_many("q0", [Message(task_id=f"t{number}") for number in range(1_000)])
    consumer.ring("q0")
    others = set(queues[1:])
    for queue in others:
        engine.put(queue, Message(task_id="t", eta_ms=1))
        if rung:
            consumer.ring(queue)
    fetches_until(engine, consumer, others, at_most=400, n=4)


def test_queues_that_all_have_work_share_by_weight(engine: Engine) -> None:
    queues = names(300)
    for queue in queues:
        engine.put_many(queue, [Message(task_id=f"t{number}") for number in range(60)])
    consumer = consumer_of(queues, q7=4, q8=2)
    shares: Counter[str] = Counter()
    while shares.total() < 3 * 304:
        shares.update(fetch(engine, consumer, 16))
    assert shares["q7"] in range(11, 15)
    assert shares["q8"] in range(5, 9)
    assert all(shares[queue] in (2, 3, 4) for queue in queues if queue not in ("q7", "q8"))


def test_one_message_at_a_time_gives_each_queue_its_turn(engine: Engine) -> None:
    queues = names(50)
    for queue in queues:
        engine.put_many(queue, [Message(task_id=f"t{number}") for number in range(3)])
    consumer = consumer_of(queues)
    turns = [fetch(engine, consumer, 1)[0] for _ in range(100)]
    assert turns == [*queues, *queues]


@pytest.mark.parametrize("queues", [1, 16, 150])
@pytest.mark.parametrize("state", [MessageState.SCHEDULED, MessageState.LEASED])
def test_a_call_moves_a_bounded_number_of_messages(still: Engine, queues: int, state: MessageState) -> None:
    each = 2_400 // queues
    eta_ms = NOW_MS + 500 if state is MessageState.SCHEDULED else None
    for queue in names(queues):
        for start in range(0, each, 800):
            numbers = range(start, min(start + 800, each))
            still.put_many(queue, [Message(task_id=f"t{number}", eta_ms=eta_ms) for number in numbers])
            if state is MessageState.LEASED:
                still.fetch(RoundRobin({queue: 1}), 800, lease_ms=500)
    move_to(still, 1_000)
    consumer = consumer_of(names(queues))
    delivered, left = 0, each * queues
    for _ in range(500):
        batch = still.fetch(consumer, 100, idle_poll_ms=IDLE_POLL)
        delivered += len(batch.deliveries)
        still.ack(batch.deliveries)
        stats = still.stats(names(queues))
        now_left = sum(getattr(queue, state.value) for queue in stats)
        assert left - now_left <= MOVES
        left = now_left
        if delivered == each * queues:
            return
        assert batch.again_at == batch.now, "there is more to do"
    raise AssertionError(f"{delivered} delivered")


def test_a_queue_that_expires_when_unused_lives_on_among_many(still: Engine) -> None:
    consumer = consumer_of(names(1_000))
    still.limit("q500", Limits(expires_ms=3_000))
    still.put("q500", Message(task_id="t", eta_ms=NOW_MS + 3_600_000))
    look_at_all(still, consumer)
    limits, renewed_at = still.keys.key("q500", "limits"), [0]
    for second in range(1, 20):
        still.runner.call("PEXPIRE", limits, 60_000)
        jump_to(still, consumer, second * 1_000)
        fetch(still, consumer)
        if still.runner.call("PTTL", limits) <= 3_000:
            renewed_at.append(second)
    assert all(later - earlier <= 2 for earlier, later in pairwise([*renewed_at, 19]))


def test_a_patrol_grows_while_it_finds_work(engine: Engine) -> None:
    queues = names(600)
    consumer = consumer_of(queues)
    look_at_all(engine, consumer)
    for queue in queues:
        engine.put(queue, Message(task_id="t"))
    consumer.ring("q0")
    fetches_until(engine, consumer, set(queues), at_most=600 // (2 * MIN_PATROL), n=256)
