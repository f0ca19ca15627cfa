"""Of many idle consumers only one or two fetch for a message, and none of them is relied on: it may die."""

from __future__ import annotations

import random

import pytest

from laneway.engine import Engine, Limits, Message
from tests.laneway.engine.clock import NOW_MS
from tests.laneway.engine.fleet import Fleet

QUEUE = "work"
CONSUMERS = 40
SECOND = 1_000
LONG = 20 * SECOND
"""An idle poll that is so long that no poll comes within a test. A lease is longer."""


def due(task: str, fleet: Fleet, in_ms: float) -> Message:
    return Message(task_id=task, eta_ms=int(NOW_MS + fleet.now + in_ms))


def test_two_fetches_deliver_a_message_that_becomes_due(still: Engine) -> None:
    fleet = Fleet(still, CONSUMERS, QUEUE, idle_poll_ms=LONG)
    still.put(QUEUE, due("t", fleet, 500))
    fleet.run(LONG + SECOND)
    assert fleet.delivered == {"t": LONG + 500}
    assert fleet.asked_fetches <= 2


@pytest.mark.parametrize("in_ms", [30, 500, 2_500, 10_000])
def test_consumers_that_poll_each_second_do_not_all_fetch_when_a_message_becomes_due(still: Engine, in_ms: int) -> None:
    fleet = Fleet(still, CONSUMERS, QUEUE, idle_poll_ms=SECOND)
    still.put(QUEUE, due("t", fleet, in_ms))
    fleet.run(SECOND + in_ms + 100)
    assert fleet.delivered == {"t": SECOND + in_ms}
    assert fleet.asked_fetches <= 2


@pytest.mark.parametrize("descending", [True, False])
def test_two_fetches_a_message_when_several_become_due(still: Engine, descending: bool) -> None:
    fleet = Fleet(still, CONSUMERS, QUEUE, idle_poll_ms=LONG)
    times = [100 * number for number in range(1, 21)]
    for ms in reversed(times) if descending else times:
        still.put(QUEUE, due(f"t{ms}", fleet, ms))
        fleet.answer_wakeups()
    fleet.run(LONG + 3 * SECOND)
    assert fleet.delivered == {f"t{ms}": LONG + ms for ms in times}
    assert fleet.asked_fetches <= 2 * len(times)


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("busy_ms", [0, 700])
def test_two_fetches_a_message_of_a_queue_with_a_rate_limit(still: Engine, one_by_one: bool, busy_ms: int) -> None:
    still.limit(QUEUE, Limits(rate=5))
    fleet = Fleet(still, CONSUMERS, QUEUE, idle_poll_ms=LONG, busy_ms=busy_ms)
    messages = [Message(task_id=f"t{number}") for number in range(20)]
    for batch in [[message] for message in messages] if one_by_one else [messages]:
        still.put_many(QUEUE, batch)
        fleet.answer_wakeups()
    fleet.run(LONG + 5 * SECOND)
    assert fleet.delivered == {f"t{number}": LONG + 200 * number for number in range(20)}
    assert fleet.asked_fetches <= 2 * len(messages)


def test_a_message_is_on_time_though_the_consumer_that_keeps_the_time_is_busy(still: Engine) -> None:
    fleet = Fleet(still, 2, QUEUE, idle_poll_ms=SECOND, busy_ms=60 * SECOND)
    still.put(QUEUE, due("later", fleet, 500))
    fleet.answer_wakeups()
    still.put(QUEUE, Message(task_id="now"))
    fleet.run(3 * SECOND)
    assert fleet.delivered == {"now": SECOND, "later": SECOND + 500}


def test_a_message_waits_for_no_more_than_an_idle_poll_when_the_consumer_that_keeps_the_time_dies(
    still: Engine,
) -> None:
    fleet = Fleet(still, CONSUMERS, QUEUE, idle_poll_ms=SECOND)
    still.put(QUEUE, due("t", fleet, 500))
    fleet.answer_wakeups()
    (keeper,) = [consumer for consumer in fleet.consumers if not consumer.is_polling]
    fleet.kill(keeper)
    fleet.run(4 * SECOND)
    assert SECOND + 500 <= fleet.delivered["t"] <= SECOND + 500 + SECOND


def test_a_message_waits_for_no_more_than_an_idle_poll_when_the_consumer_that_was_woken_dies(still: Engine) -> None:
    fleet = Fleet(still, CONSUMERS, QUEUE, idle_poll_ms=SECOND)
    still.put(QUEUE, Message(task_id="t"))
    woken = fleet.take_wakeup()
    assert woken
    fleet.kill(woken[0])
    fleet.run(3 * SECOND)
    assert fleet.delivered["t"] <= 2 * SECOND


@pytest.mark.parametrize("seed", range(6))
def test_no_message_is_late_by_more_than_an_idle_poll_while_a_consumer_is_idle(still: Engine, seed: int) -> None:
    """Messages due at any time in three queues; consumers are busy now and then, and half of them die."""
    chance = random.Random(seed)
    fleet = Fleet(still, 12, "a", "b", "c", idle_poll_ms=SECOND, busy_ms=chance.choice((0, 300)), room=3)
    due_at: dict[str, float] = {}
    for number in range(60):
        in_ms = chance.choice((0, 0, chance.randrange(3_000)))
        still.put(chance.choice(fleet.queues), due(f"t{number}", fleet, in_ms))
        due_at[f"t{number}"] = fleet.now + in_ms
        if number % 10 == 9:
            fleet.take_wakeup()
            fleet.kill(chance.choice(fleet.consumers))
        fleet.run(fleet.now + chance.randrange(150))
    fleet.run(fleet.now + 5 * SECOND)
    assert fleet.delivered.keys() == due_at.keys()
    assert all(0 <= fleet.delivered[task] - at <= SECOND for task, at in due_at.items())


def test_a_caller_that_does_not_wait_takes_nobodys_wakeup(still: Engine) -> None:
    fleet = Fleet(still, 1, QUEUE, idle_poll_ms=SECOND)
    still.put(QUEUE, due("t", fleet, 500))
    assert still.fetch(fleet.consumers[0].round_robin, 1).again_at == NOW_MS + SECOND + 500
    assert fleet.take_wakeup()
