"""The turns of tenants, deadlines, and messages that have waited too long."""

from __future__ import annotations

from collections import Counter

from laneway.engine import Engine, Flow, Limits, Message, RoundRobin
from tests.laneway.engine.clock import NOW_MS, move_to

QUEUE = "work"
HOUR_MS = 3_600_000


def fetch(engine: Engine, n: int = 10) -> list[str]:
    return [held.id for held in engine.fetch(RoundRobin({QUEUE: 1}), n, lease_ms=10 * HOUR_MS).deliveries]


def put(engine: Engine, task: str, flow: Flow | None = None, *, priority: int = 0) -> None:
    engine.put(QUEUE, Message(task_id=task, flow=flow, priority=priority))


def put_many(engine: Engine, number: int, tenant: str, weight: int = 1) -> None:
    flow = Flow(tenant=tenant, weight=weight)
    engine.put_many(QUEUE, [Message(task_id=f"{tenant}{index}", flow=flow) for index in range(number)])


def test_a_task_of_one_tenant_goes_next_though_another_has_put_many_before(still: Engine) -> None:
    put_many(still, 3_000, "big")
    assert fetch(still, 100)[-1] == "big99"
    put_many(still, 1, "small")
    assert "small0" in fetch(still, 2)


def test_tenants_take_turns_in_proportion_to_their_weights(still: Engine) -> None:
    put_many(still, 100, "a", weight=3)
    put_many(still, 100, "b")
    shares = Counter(task[0] for task in fetch(still, 40))
    assert shares["a"] in (30, 31)


def test_a_tenant_that_was_idle_has_saved_up_nothing(still: Engine) -> None:
    put_many(still, 50, "a")
    assert len(fetch(still, 40)) == 40
    put_many(still, 50, "b")
    shares = Counter(task[0] for task in fetch(still, 20))
    assert shares == {"a": 10, "b": 10}


def test_messages_without_a_tenant_share_as_one_tenant(still: Engine) -> None:
    put_many(still, 50, "a")
    for number in range(50):
        put(still, f"plain{number}")
    shares = Counter(task[0] for task in fetch(still, 20))
    assert shares == {"a": 10, "p": 10}


def test_priorities_go_before_tenants(still: Engine) -> None:
    put_many(still, 10, "a")
    put(still, "urgent", Flow(tenant="a"), priority=9)
    assert fetch(still, 1) == ["urgent"]


def test_a_message_that_is_given_back_keeps_its_turn(still: Engine) -> None:
    put_many(still, 3, "a")
    put_many(still, 3, "b")
    held = still.fetch(RoundRobin({QUEUE: 1}), 2, lease_ms=1_000).deliveries
    still.release(held[:1])
    assert fetch(still, 1) == [held[0].id]
    move_to(still, 1_000)
    assert held[1].id in fetch(still, 2)


def test_ranks_are_forgotten_with_their_messages(still: Engine) -> None:
    put_many(still, 5, "a")
    put(still, "plain")
    still.cancel(QUEUE, "a4")
    still.ack(still.fetch(RoundRobin({QUEUE: 1}), 10).deliveries)
    assert still.runner.call("HLEN", still.keys.key(QUEUE, "ranks")) == 0
    assert list(still.find_strays(QUEUE)) == []


def test_tenants_that_have_had_nothing_for_a_while_are_forgotten(still: Engine) -> None:
    for number in range(1_200):
        put(still, f"t{number}", Flow(tenant=f"tenant{number}"))
    fetch(still, 1_000)
    fetch(still, 1_000)
    put(still, "last", Flow(tenant="last"))
    put(still, "a", Flow(tenant="last"))
    put(still, "b", Flow(tenant="last"))
    assert fetch(still, 3) == ["last", "a", "b"]
    put(still, "c", Flow(tenant="last"))
    assert still.runner.call("ZCARD", still.keys.key(QUEUE, "tenants")) < 100


def test_the_earliest_deadline_goes_first_and_none_starves(still: Engine) -> None:
    put(still, "plain")
    put(still, "in 10 min", Flow(deadline_ms=NOW_MS + 600_000))
    put(still, "in 1 min", Flow(deadline_ms=NOW_MS + 60_000))
    put(still, "in 2 h", Flow(deadline_ms=NOW_MS + 2 * HOUR_MS))
    assert fetch(still) == ["in 1 min", "in 10 min", "plain", "in 2 h"]


def test_a_message_with_a_far_deadline_goes_before_what_is_put_later_than_an_hour_before_it(still: Engine) -> None:
    put(still, "in 2 h", Flow(deadline_ms=NOW_MS + 2 * HOUR_MS))
    move_to(still, HOUR_MS - 1)
    put(still, "before")
    move_to(still, HOUR_MS + 1)
    put(still, "after")
    assert fetch(still) == ["before", "in 2 h", "after"]


def test_what_has_waited_too_long_goes_before_all_priorities(still: Engine) -> None:
    still.limit(QUEUE, Limits(max_wait_ms=5_000))
    put(still, "low")
    move_to(still, 5_000)
    put(still, "urgent", priority=9)
    assert fetch(still, 1) == ["urgent"], "it has not waited for longer yet"
    put(still, "urgent 2", priority=9)
    move_to(still, 5_001)
    assert fetch(still) == ["low", "urgent 2"]


def test_the_time_for_which_a_tenants_message_has_waited_is_known(still: Engine) -> None:
    put_many(still, 3, "a")
    move_to(still, 4_000)
    assert still.stats([QUEUE])[0].oldest_at == NOW_MS


def test_in_a_strict_order_a_queue_waits_while_one_of_a_lower_class_has_work(still: Engine) -> None:
    for queue in ("first", "second", "third"):
        still.put_many(queue, [Message(task_id=f"{queue}{number}") for number in range(4)])
    order = RoundRobin(dict.fromkeys(("third", "second", "first"), 1), classes={"first": 1, "second": 2, "third": 2})
    found = [held.id for held in still.fetch(order, 10).deliveries]
    assert found[:4] == [f"first{number}" for number in range(4)]
    assert Counter(task[0] for task in found[4:]) == {"s": 3, "t": 3}
    still.pause("first")
    still.put("first", Message(task_id="paused"))
    assert len(still.fetch(order, 10).deliveries) == 2, "a paused queue keeps no other waiting"


def test_of_many_queues_those_that_a_fetch_looks_at_are_in_a_strict_order(still: Engine) -> None:
    queues = [f"q{number}" for number in range(40)]
    order = RoundRobin(dict.fromkeys(queues, 1), classes={queue: 1 + number % 3 for number, queue in enumerate(queues)})
    for queue in queues[:12]:
        still.put(queue, Message(task_id=queue))
    found = list[str]()
    for _ in range(20):
        batch = [held.id for held in still.fetch(order, 4).deliveries]
        classes = [queues.index(queue) % 3 for queue in batch]
        assert classes == sorted(classes)
        found += batch
    assert sorted(found) == sorted(queues[:12])
