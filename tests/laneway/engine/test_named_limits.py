"""Limits that messages of several queues share, and labels of consumers."""

from __future__ import annotations

import pytest

from laneway.engine import (
    Delivery,
    Engine,
    Flow,
    InvalidLimit,
    InvalidMessage,
    LimitUse,
    Message,
    MessageState,
    NamedLimit,
    RoundRobin,
)
from laneway.engine.message import FORMAT_STEP, encode
from tests.laneway.engine.clock import NOW_MS, move_to

QUEUE, OTHER = "work", "other"
API = Flow(limits=(LimitUse("api"),))
GPU = Flow(labels=("gpu",))


def fetch(engine: Engine, *queues: str, n: int = 10, labels: tuple[str, ...] = (), lease_ms: int = 60_000) -> list[str]:
    return [held.id for held in deliveries(engine, *queues, n=n, labels=labels, lease_ms=lease_ms)]


def deliveries(
    engine: Engine, *queues: str, n: int = 10, labels: tuple[str, ...] = (), lease_ms: int = 60_000
) -> list[Delivery]:
    round_robin = RoundRobin(dict.fromkeys(queues or (QUEUE,), 1), labels=labels)
    return engine.fetch(round_robin, n, lease_ms=lease_ms).deliveries


def put(engine: Engine, *tasks: str, queue: str = QUEUE, flow: Flow = API) -> None:
    for task in tasks:
        engine.put(queue, Message(task_id=task, flow=flow))


def test_two_queues_share_a_limit_of_running_messages(still: Engine) -> None:
    still.set_named_limit("api", NamedLimit(max_running=2))
    put(still, "a", "b")
    put(still, "c", "d", queue=OTHER)

    first = deliveries(still, QUEUE, OTHER)
    assert len(first) == 2
    assert still.named_limits(["api"])[0].running == 2
    assert sum(stats.limited for stats in still.stats([QUEUE, OTHER])) == 2

    still.ack(first[:1])
    assert len(fetch(still, QUEUE, OTHER)) == 1
    assert fetch(still, QUEUE, OTHER) == []


@pytest.mark.parametrize("end", ["ack", "release", "bury", "expire", "cancel", "delete"])
def test_whatever_ends_a_lease_gives_its_points_back(still: Engine, end: str) -> None:
    still.set_named_limit("api", NamedLimit(max_running=1))
    put(still, "a")
    (held,) = deliveries(still, lease_ms=1_000)
    put(still, "b", queue=OTHER)
    assert fetch(still, OTHER) == []

    match end:
        case "ack":
            still.ack([held])
        case "release":
            still.release([held], delay_ms=60_000)
        case "bury":
            still.bury([held], reason="test")
        case "cancel":
            still.cancel(QUEUE, "a")
            still.ack([held])
        case "delete":
            still.delete(QUEUE)
        case _:
            move_to(still, 1_000)
            assert fetch(still, QUEUE) == ["a"]
            still.ack(deliveries(still, QUEUE))
            move_to(still, 70_000)
            still.release(deliveries(still, QUEUE), delay_ms=60_000)

    assert fetch(still, OTHER) == ["b"]
    assert still.named_limits(["api"])[0].running == 1


def test_points_of_a_queue_whose_keys_somebody_deleted_come_back(still: Engine) -> None:
    still.set_named_limit("api", NamedLimit(max_running=1))
    put(still, "a")
    assert fetch(still) == ["a"]
    still.runner.call("DEL", still.keys.key(QUEUE, "leased"), still.keys.key(QUEUE, "slots"))
    put(still, "b", queue=OTHER)
    assert fetch(still, OTHER) == []
    move_to(still, 5_001)
    assert fetch(still, OTHER) == ["b"]


def test_a_rate_opens_at_its_millisecond_and_the_consumer_is_told_when(still: Engine) -> None:
    still.set_named_limit("api", NamedLimit(rate=2, burst=1))
    put(still, "a", "b", "c")
    assert fetch(still) == ["a"]
    batch = still.fetch(RoundRobin({QUEUE: 1}), 5, idle_poll_ms=0)
    assert (batch.deliveries, batch.again_at) == ([], NOW_MS + 500)
    move_to(still, 499)
    assert fetch(still) == []
    move_to(still, 500)
    assert fetch(still) == ["b"]
    move_to(still, 999)
    assert fetch(still) == []
    move_to(still, 1_000)
    assert fetch(still) == ["c"]


def test_points_count_and_more_than_the_burst_waits_for_the_whole_of_it(still: Engine) -> None:
    still.set_named_limit("api", NamedLimit(rate=1, burst=3))
    put(still, "three", "five", flow=Flow(limits=(LimitUse("api", points=3),)))
    assert fetch(still) == ["three"]
    move_to(still, 2_999)
    assert fetch(still) == []
    move_to(still, 3_000)
    assert fetch(still) == ["five"]


def test_each_key_is_counted_alone(still: Engine) -> None:
    still.set_named_limit("customer", NamedLimit(max_running=1))
    for task, key in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        put(still, task, flow=Flow(limits=(LimitUse("customer", key),)))
    assert fetch(still) == ["a1", "b1"]
    found = still.find(QUEUE, "a2")
    assert (found.state, found.waits_for) == (MessageState.LIMITED, LimitUse("customer", "a"))


def test_a_message_waits_until_all_its_limits_let_it_through(still: Engine) -> None:
    still.set_named_limit("one", NamedLimit(max_running=1))
    still.set_named_limit("two", NamedLimit(rate=1))
    both = Flow(limits=(LimitUse("one"), LimitUse("two")))
    put(still, "a", flow=both)
    held = deliveries(still)
    put(still, "b", flow=both)
    assert fetch(still) == []
    still.ack(held)
    assert fetch(still) == [], "the rate is used up"
    assert still.named_limits(["one"])[0].running == 0, "what waits holds nothing"
    move_to(still, 1_000)
    assert fetch(still) == ["b"]


def test_a_limit_that_is_not_set_lets_everything_through_and_one_that_is_removed_too(still: Engine) -> None:
    put(still, "a", "b")
    assert fetch(still) == ["a", "b"]
    still.set_named_limit("api", NamedLimit(max_running=1))
    put(still, "c", "d")
    assert fetch(still) == ["c"], "what ran before was not counted"
    still.set_named_limit("api", None)
    assert fetch(still) == ["d"]


def test_a_limit_that_was_reached_lets_nothing_through_for_a_while(still: Engine) -> None:
    still.block_limit("api", 3.0)
    put(still, "a")
    assert fetch(still) == []
    assert still.named_limits(["api"])[0].blocked_until == NOW_MS + 3_000
    still.block_limit("api", 1.0)
    move_to(still, 2_999)
    assert fetch(still) == [], "a shorter block does not open it earlier"
    move_to(still, 3_000)
    assert fetch(still) == ["a"]


def test_a_block_of_one_key_leaves_the_others_open(still: Engine) -> None:
    still.block_limit("api", 3.0, key="x")
    put(still, "x", flow=Flow(limits=(LimitUse("api", "x"),)))
    put(still, "y", flow=Flow(limits=(LimitUse("api", "y"),)))
    assert fetch(still) == ["y"]


def test_all_runs_of_a_task_have_a_limit_in_the_queues_that_look_for_it(still: Engine) -> None:
    still.set_named_limit("task:reports.build", NamedLimit(max_running=1))
    for task in ("a", "b"):
        still.put(QUEUE, Message(task_id=task, name="reports.build"))
        still.put(OTHER, Message(task_id=task, name="reports.build"))
    still.limit_task_names(QUEUE, on=True)
    assert fetch(still, QUEUE) == ["a"]
    assert fetch(still, OTHER) == ["a", "b"]


def test_messages_that_wait_for_a_limit_do_not_hold_up_others(still: Engine) -> None:
    """Also when there are more than one call moves."""
    still.block_limit("api", 60.0)
    still.put_many(QUEUE, [Message(task_id=f"t{number}", flow=API) for number in range(2_500)])
    still.put(QUEUE, Message(task_id="free"))
    round_robin, found, calls = RoundRobin({QUEUE: 1}), list[str](), 0
    while not found and calls < 5:
        found, calls = [held.id for held in still.fetch(round_robin, 10).deliveries], calls + 1
    assert (found, calls) == (["free"], 3)
    assert still.stats([QUEUE])[0].limited == 2_500
    still.cancel(QUEUE, "t7")
    assert still.purge(QUEUE) == 2_499
    assert list(still.find_strays(QUEUE)) == []


def test_what_waits_goes_on_by_priority_and_then_in_its_order(still: Engine) -> None:
    still.block_limit("api", 1.0)
    for task, priority in (("a", 0), ("b", 0), ("urgent", 9)):
        still.put(QUEUE, Message(task_id=task, priority=priority, flow=API))
    assert fetch(still) == []
    move_to(still, 1_000)
    still.set_named_limit("api", NamedLimit(max_running=2))
    assert fetch(still) == ["urgent", "a"]


def test_a_message_that_needs_a_label_rings_for_consumers_with_it(still: Engine) -> None:
    put(still, "a", flow=GPU)
    own = RoundRobin({QUEUE: 1}, labels=("gpu",)).wakeups(still.keys)
    key = still.keys.label_wakeup(QUEUE, "gpu")
    assert own == {still.keys.wakeup(QUEUE): QUEUE, key: QUEUE}
    assert still.fetch(RoundRobin({QUEUE: 1}), 10, idle_poll_ms=60_000).deliveries == []

    assert still.runner.call("EXISTS", still.keys.wakeup(QUEUE)) == 0, "others would find nothing"
    assert still.runner.call("ZCARD", key) == 1
    assert 0 < still.runner.call("PTTL", key) <= 60_000, "nobody may ever have this label again"


def test_only_a_consumer_with_its_labels_gets_a_message(still: Engine) -> None:
    put(still, "a", "b", flow=GPU)
    put(still, "eu", flow=Flow(labels=("gpu", "eu")))
    put(still, "plain", flow=Flow())
    assert fetch(still) == ["plain"]
    assert fetch(still, labels=("cpu", "gp")) == []
    assert still.find(QUEUE, "eu").waits_for == ("eu", "gpu")
    assert fetch(still, labels=("gpu",)) == ["a", "b"]
    assert fetch(still, labels=("eu", "fast", "gpu")) == ["eu"]


def test_a_message_of_an_ordering_key_keeps_its_key_while_it_waits_for_a_limit(still: Engine) -> None:
    still.block_limit("api", 1.0)
    still.put(QUEUE, Message(task_id="a", key="k", flow=API))
    still.put(QUEUE, Message(task_id="b", key="k"))
    assert fetch(still) == []
    move_to(still, 1_000)
    held = deliveries(still)
    assert [each.id for each in held] == ["a"]
    still.ack(held)
    assert fetch(still) == ["b"]


def test_a_server_whose_clock_goes_back_does_not_close_a_rate(still: Engine) -> None:
    still.set_named_limit("api", NamedLimit(rate=1))
    put(still, "a", "b")
    move_to(still, 3_600_000)
    assert fetch(still) == ["a"]
    move_to(still, 0)
    put(still, "c")
    assert fetch(still) == []
    move_to(still, 1_000)
    assert fetch(still) == ["b"]


@pytest.mark.parametrize("damaged", [b"{", b"[]", b'{"l":7}', b'{"l":[["api"]],"n":[],"t":{},"d":"x"}', b"\xff"])
def test_fields_that_cannot_be_read_hold_up_nothing(still: Engine, damaged: bytes) -> None:
    put(still, "a", "b")
    key = still.keys.key(QUEUE, "messages")
    record = still.runner.call("HGET", key, "a")
    start = 10
    length = int.from_bytes(record[start : start + 2], "big")
    changed = record[:start] + len(damaged).to_bytes(2, "big") + damaged + record[start + 2 + length :]
    still.runner.call("HSET", key, "a", changed)
    assert set(fetch(still)) == {"a", "b"}


def test_a_message_without_these_fields_has_the_format_of_earlier_versions() -> None:
    assert encode(Message(task_id="a", key="k", priority=4))[1][1] == 4
    assert encode(Message(task_id="a", flow=API, priority=4))[1][1] == FORMAT_STEP + 4


@pytest.mark.parametrize(
    "flow",
    [
        Flow(limits=(LimitUse(""),)),
        Flow(limits=(LimitUse("a\0b"),)),
        Flow(limits=(LimitUse("x" * 150, "y" * 51),)),
        Flow(limits=(LimitUse("a", points=0),)),
        Flow(limits=(LimitUse("a", points=101),)),
        Flow(limits=(LimitUse("a"),) * 9),
        Flow(labels=("",)),
        Flow(labels=("a,b",)),
        Flow(labels=("x" * 201,)),
        Flow(tenant=""),
        Flow(tenant="a", weight=0),
        Flow(deadline_ms=-1),
        Flow(tenant="a", deadline_ms=NOW_MS),
    ],
)
def test_fields_that_cannot_work_are_refused(flow: Flow) -> None:
    with pytest.raises(InvalidMessage):
        encode(Message(task_id="a", flow=flow))


@pytest.mark.parametrize(
    "limit", [NamedLimit(rate=0), NamedLimit(rate=float("nan")), NamedLimit(burst=0), NamedLimit(max_running=0)]
)
def test_limits_that_cannot_work_are_refused(limit: NamedLimit) -> None:
    with pytest.raises(InvalidLimit):
        limit.fields()


def test_a_message_that_waits_for_a_rate_is_told_when_its_turn_is(still: Engine) -> None:
    still.set_named_limit("api", NamedLimit(rate=2, burst=1))
    put(still, "a", "b", "c", "d")
    put(still, "e", queue=OTHER)
    assert fetch(still) == ["a"]
    assert fetch(still, OTHER) == []
    waits = {task: still.limit_waits(QUEUE, task) for task in "abcd"}

    assert waits["a"] == []
    assert [(waits[task][0].ahead, waits[task][0].opens_at) for task in "bcd"] == [
        (0, (NOW_MS + 500) * 1000),
        (2, (NOW_MS + 1_500) * 1000),  # one of its queue, and that of the other one
        (3, (NOW_MS + 2_000) * 1000),
    ]
    assert still.named_limits(["api"])[0].opens_at == (NOW_MS + 500) * 1000
    assert still.named_limits(["api"])[0].waiting_in == {QUEUE: 3, OTHER: 1}
    move_to(still, 500)
    assert fetch(still) == ["b"]
    assert still.limit_waits(QUEUE, "c")[0].opens_at == (NOW_MS + 1_000) * 1000


def test_a_message_is_told_who_has_the_points_of_each_of_its_limits(still: Engine) -> None:
    still.set_named_limit("api", NamedLimit(max_running=3))
    still.set_named_limit("each", NamedLimit(max_running=1))
    both = Flow(limits=(LimitUse("api", points=2), LimitUse("each", "k")))
    put(still, "a", queue=OTHER, flow=both)
    assert fetch(still, OTHER) == ["a"]
    put(still, "b", flow=both)
    assert fetch(still) == []
    first, second = still.limit_waits(QUEUE, "b")

    assert (first.name, first.key, first.running, first.is_full, first.opens_at) == ("api", "", 2, True, 0)
    assert [(holder.queue, holder.task_id, holder.lease_end) for holder in first.holders] == [
        (OTHER, "a", NOW_MS + 60_000)
    ]
    assert (second.name, second.key, second.running, second.is_full) == ("each", "k", 1, True)
    still.runner.call("DEL", still.keys.key(OTHER, "leased"))
    assert still.limit_waits(QUEUE, "b")[0].holders == [], "a point without a lease has no holder"


def test_a_blocked_limit_opens_after_the_block_with_its_burst(still: Engine) -> None:
    still.set_named_limit("api", NamedLimit(rate=1, burst=2))
    put(still, "a", "b", "c")
    still.block_limit("api", 30)
    assert fetch(still) == []

    opens = [still.limit_waits(QUEUE, task)[0].opens_at for task in "abc"]
    assert [each // 1000 - NOW_MS for each in opens] == [30_000, 30_000, 31_000]


def test_the_limits_of_a_message_that_waits_for_labels_are_not_told(still: Engine) -> None:
    put(still, "a", flow=GPU)
    assert fetch(still) == []
    assert still.limit_waits(QUEUE, "a") == still.limit_waits(QUEUE, "nothing") == []
