"""Messages of kombu's lists are moved in order, each once, and what cannot be moved is left and named."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from kombu.compression import decompress

from laneway.adopt.drain import Counted, Drain
from laneway.adopt.mover import Move, Mover
from laneway.adopt.old_workers import OldWorkers
from laneway.adopt.project import Project
from laneway.adopt.rules import ASK_FIRST, MAY_RUN, NOT_OVERDUE, UNREGISTERED, ProjectRules, UnackedRules
from laneway.adopt.stock_lists import Source, StockLists
from laneway.adopt.stock_message import NO_CALL, NOT_ADDRESSED, NOT_JSON, OLD_PROTOCOL, StockMessage
from laneway.engine import Engine, MessageState
from laneway.engine.errors import ServerLost
from laneway.engine.round_robin import RoundRobin
from laneway.engine.script_runner import ScriptRunner
from laneway.transport.codec import from_delivery

CELERY = Source("celery", "celery")
BODY = json.dumps([[1, 2], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])


def rules(shop: Any) -> ProjectRules:
    return ProjectRules(Project(shop.app), (0, 3, 6, 9))


def drain(lists: StockLists, engine: Engine, shop: Any, source: Source = CELERY) -> Counted:
    return Drain(lists, rules(shop), Mover(engine, lists.runner)).run(source)


def ids(engine: Engine, queue: str = "celery", state: MessageState = MessageState.READY) -> list[str]:
    found: list[str] = []
    while page := engine.peek(queue, state, offset=len(found), limit=500, bodies=False):
        found += [info.stored.message.task_id for info in page]
    return found


def raw(**changes: Any) -> dict[str, Any]:
    """A message as kombu writes it, with changed fields."""
    message: dict[str, Any] = {
        "body": BODY,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": "shop.add", "id": "1", "lang": "py"},
        "properties": {"delivery_tag": "t", "body_encoding": None, "delivery_info": {}, "priority": 0},
    }
    return message | changes


def test_the_order_the_priorities_and_what_the_message_says_are_kept(
    shop: Any, broker: Engine, lists: StockLists
) -> None:
    sent = {step: [shop.add.apply_async((1, 2), priority=step, expires=900).id for _ in range(520)] for step in (0, 6)}
    late = shop.add.apply_async((1, 2), countdown=600)
    linked = shop.add.apply_async((3, 4), link=shop.record.si("after"), headers={"tenant": "x"})

    for source in lists.sources("celery"):
        counted = drain(lists, broker, shop, source)
        assert (counted.after, counted.unexplained) == (0, 0)

    assert ids(broker) == [*sent[0], linked.id, *sent[6]]
    assert ids(broker, state=MessageState.SCHEDULED) == [late.id]
    (batch,) = [broker.fetch(RoundRobin({"celery": 1}), 521).deliveries]
    first, last = (from_delivery(batch[at], "t", zero_goes_first=True) for at in (0, -1))
    assert first["properties"]["priority"] == 0
    assert first["headers"]["expires"]
    assert last["headers"]["tenant"] == "x"
    assert json.loads(last["body"])[2]["callbacks"][0]["task"] == "shop.record"


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"compression": "bzip2"}])
def test_compressed_messages_are_moved_unchanged(
    shop: Any, broker: Engine, lists: StockLists, options: dict[str, Any]
) -> None:
    shop.add.apply_async((1, 2), **options)

    assert drain(lists, broker, shop).moved == 1
    (delivery,) = broker.fetch(RoundRobin({"celery": 1}), 1).deliveries
    found = from_delivery(delivery, "t")
    assert json.loads(decompress(found["body"], found["headers"]["compression"]))[0] == [1, 2]


HOSTILE: dict[str, tuple[Any, str]] = {
    "no JSON": (b"\x80\x04junk", NOT_JSON),
    "empty": (b"", NOT_JSON),
    "a number": (b"7", NOT_JSON),
    "deep": (b"[" * 5000, NOT_JSON),
    "no headers": (raw(headers=None), NOT_JSON),
    "headers in a list": (raw(headers=[1]), NOT_JSON),
    "no task": (raw(headers={"id": "1"}), NO_CALL),
    "protocol 1": (raw(headers={}, body='{"task": "shop.add", "id": "1", "args": []}'), OLD_PROTOCOL),
    "a number as the id": (raw(headers={"task": "shop.add", "id": 7}), NO_CALL),
    "another task": (raw(headers={"task": "of.another.project", "id": "1"}), UNREGISTERED),
    "a body that is a list": (raw(body=[1]), NOT_JSON),
    "base64 that is none": (raw(body="!", properties={"body_encoding": "base64"}), NOT_JSON),
    "an encoding that there is not": (
        raw(body="aGk=", properties={"body_encoding": "base64"}) | {"content-encoding": "klingon"},
        NOT_JSON,
    ),
    "delivery_info is text": (raw(properties={"delivery_info": "x"}), NOT_JSON),
    "an id that is too long": (raw(headers={"task": "shop.add", "id": "1" * 300}), "must have 1 to 255 bytes"),
    "an id with NUL": (raw(headers={"task": "shop.add", "id": "a\0b"}), "NUL"),
    "a surrogate": (raw(headers={"task": "shop.add", "id": "\ud800"}), "cannot be stored"),
    "pickle": (raw() | {"content-type": "application/x-python-serialize"}, "accept_content"),
    "wrong options of the engine": (
        raw(headers={"task": "shop.add", "id": "1", "laneway-unique": 5}),
        "cannot be stored",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_message_is_left_and_named_and_stops_no_other(
    shop: Any, broker: Engine, lists: StockLists, case: str
) -> None:
    value, reason = HOSTILE[case]
    member = value if isinstance(value, bytes) else json.dumps(value).encode()
    first, second = shop.add.delay(1, 2), None
    broker.runner.call("LPUSH", "celery", member)
    second = shop.add.delay(1, 2)

    counted = drain(lists, broker, shop)

    assert (counted.moved, counted.left.total(), counted.after, counted.unexplained) == (2, 1, 1, 0)
    assert reason in next(iter(counted.left))
    assert len(counted.examples[next(iter(counted.left))]) == 1
    assert broker.runner.call("LRANGE", "celery", 0, -1) == [member]
    assert ids(broker) == [first.id, second.id]


def test_what_is_left_in_front_does_not_hide_what_is_behind_it(shop: Any, broker: Engine, lists: StockLists) -> None:
    for _ in range(3):
        broker.runner.call("LPUSH", "celery", *[b"junk"] * 600)
        shop.add.delay(1, 2)

    counted = drain(lists, broker, shop)

    assert (counted.moved, counted.left[NOT_JSON], counted.after) == (3, 1800, 1800)


def test_two_messages_of_one_task_id_are_both_moved(shop: Any, broker: Engine, lists: StockLists) -> None:
    for number in (1, 2):
        shop.add.apply_async((number, 0), task_id="nightly")

    assert drain(lists, broker, shop).moved == 2
    assert len(ids(broker)) == 2


def test_runs_workers_and_senders_at_the_same_time_neither_lose_nor_double(
    shop: Any, broker: Engine, lists: StockLists
) -> None:
    sent = [shop.add.delay(number, 0).id for number in range(1200)]
    taken: list[str] = []
    stop = threading.Event()

    def consume() -> None:
        while not stop.is_set():
            member = broker.runner.call("RPOP", "celery")
            if member:
                taken.append(json.loads(member)["headers"]["id"])

    threads = [threading.Thread(target=drain, args=(lists, broker, shop)) for _ in range(2)]
    consumer = threading.Thread(target=consume)
    for thread in (*threads, consumer):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    consumer.join()

    moved = ids(broker)
    assert taken
    assert moved
    assert sorted([*taken, *moved]) == sorted(sent)


class Dying(ScriptRunner):
    """A connection that is lost before, or after, messages are removed from their own server."""

    def __init__(self, inner: ScriptRunner, *, after: bool) -> None:
        super().__init__(inner.pool)
        self._after = after

    def run(self, name: str, *args: Any, **options: Any) -> Any:
        """Run a script; die with `remove_source`."""
        if name == "remove_source" and not self._after:
            raise ServerLost("gone")
        reply = super().run(name, *args, **options)
        if name == "remove_source":
            raise ServerLost("gone")
        return reply


@pytest.mark.parametrize("after", [False, True])
def test_a_copy_to_another_server_that_dies_puts_nothing_twice(
    shop: Any, broker: Engine, lists: StockLists, engine: Engine, after: bool
) -> None:
    sent = [shop.add.delay(number, 0).id for number in range(20)]
    dying = Mover(engine, Dying(broker.runner, after=after))
    assert not dying.is_atomic
    with pytest.raises(ServerLost):
        Drain(lists, rules(shop), dying).run(CELERY)
    assert ids(engine) == sent
    for delivery in broker_ran(engine):  # a worker of the new server has finished them meanwhile
        engine.ack([delivery])

    again = Mover(engine, broker.runner)
    counted = Drain(lists, rules(shop), again).run(CELERY)
    again.forget_notes()

    assert (counted.moved, counted.after, ids(engine)) == (0 if after else 20, 0, [])
    assert broker.runner.call("LLEN", "celery") == 0
    assert engine.runner.call("EXISTS", "laneway:adopting") == 0


def broker_ran(engine: Engine) -> list[Any]:
    return list(engine.fetch(RoundRobin({"celery": 1}), 100).deliveries)


# --- delivered and not acknowledged


def deliver(
    broker: Engine, member: bytes, *, tag: str, at: float | None, exchange: str = "", key: str = "celery"
) -> None:
    """Do what a worker of kombu's does when it takes a message."""
    broker.runner.call("HSET", "unacked", tag, json.dumps([json.loads(member), exchange, key]))
    if at is not None:
        broker.runner.call("ZADD", "unacked_index", str(at), tag)


@pytest.fixture
def delivered(shop: Any, broker: Engine) -> list[str]:
    """Three messages that were delivered: long ago, just now, and one that the index does not name."""
    sent = [shop.add.apply_async((number, 0), priority=3).id for number in range(3)]
    for at, tag in ((time.time() - 7200, "b"), (time.time(), "a"), (None, "c")):
        deliver(broker, broker.runner.call("RPOP", Source("celery\x06\x163").key), tag=tag, at=at)
    return sent


def take(shop: Any, *, workers: tuple[str, ...], take: bool) -> Callable[[StockMessage], Move | str]:
    return UnackedRules(rules(shop), {"celery"}, OldWorkers(workers), take, 3600)


@pytest.mark.parametrize(
    ("workers", "asked", "moved", "reasons"),
    [
        ((), False, 0, {ASK_FIRST: 3}),
        (("w@a",), False, 0, {MAY_RUN: 3}),
        (("w@a",), True, 2, {NOT_OVERDUE: 1}),
        ((), True, 3, {}),
    ],
)
def test_delivered_messages_are_taken_only_when_nobody_runs_them(
    shop: Any,
    broker: Engine,
    lists: StockLists,
    delivered: list[str],
    workers: tuple[str, ...],
    asked: bool,
    moved: int,
    reasons: dict[str, int],
) -> None:
    counted = Drain(lists, take(shop, workers=workers, take=asked), Mover(broker, broker.runner)).run(lists.unacked)

    assert (counted.moved, dict(counted.left), counted.before, counted.after) == (moved, reasons, 3, 3 - moved)
    assert broker.runner.call("HLEN", "unacked") == 3 - moved
    if moved == 3:
        assert ids(broker) == delivered, "in the order of their delivery"
        assert broker.runner.call("ZCARD", "unacked_index") == 0
        assert {info.stored.message.priority for info in broker.peek("celery", MessageState.READY)} == {6}


def test_a_delivered_message_goes_to_the_queue_that_is_bound_to_its_exchange(
    shop: Any, broker: Engine, lists: StockLists
) -> None:
    member = json.dumps(raw()).encode()
    broker.runner.call("SADD", "_kombu.binding.mail", "out\x06\x16\x06\x16celery", "both\x06\x16\x06\x16celery")
    broker.runner.call("SADD", "_kombu.binding.mail", "both\x06\x16\x06\x16other")
    for tag, key in (("a", "out"), ("b", "both"), ("c", "nowhere")):
        deliver(broker, member, tag=tag, at=1, exchange="mail", key=key)
    broker.runner.call("HSET", "unacked", "d", "junk")
    broker.runner.call("ZADD", "unacked_index", 5, "acknowledged since")

    counted = Drain(lists, take(shop, workers=(), take=True), Mover(broker, broker.runner)).run(lists.unacked)

    assert (counted.moved, dict(counted.left), counted.after) == (1, {NOT_ADDRESSED: 2, NOT_JSON: 1}, 3)


def test_keys_of_other_types_are_no_messages(shop: Any, broker: Engine, lists: StockLists) -> None:
    broker.runner.call("SET", "celery", "x")
    broker.runner.call("SET", "unacked", "x")

    assert drain(lists, broker, shop).before == 0
    assert Drain(lists, rules(shop), None).run(lists.unacked).before == 0
