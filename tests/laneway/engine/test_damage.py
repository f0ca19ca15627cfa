"""A queue whose keys somebody has damaged stops no other queue and no caller."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from redis.exceptions import ResponseError

from laneway.engine import AckAction, Engine, LeaseStatus, Message, MessageState, RoundRobin, Unique
from laneway.engine.engine import Delivery
from laneway.engine.keys import NAMES

DAMAGED, SOUND = "damaged", "sound"
HASHES = ("messages", "heads", "deliveries", "dead_info", "cancelled", "unique", "attempts", "ack_actions")
GARBAGE = (b"", b"\xff", b"\x00" * 10, b"\xff" * 40)


def fetch(engine: Engine, queue: str, n: int = 1, *, lease_ms: int = 30_000) -> list[Delivery]:
    return engine.fetch(RoundRobin({queue: 1}), n, lease_ms=lease_ms).deliveries


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A queue with messages in every state, and one message in another queue."""
    engine.enable_journal(DAMAGED, 1000)
    engine.put(DAMAGED, Message(task_id="dead"))
    engine.bury(fetch(engine, DAMAGED), reason="test")
    engine.put(DAMAGED, Message(task_id="leased", key="a", unique=Unique("u")))
    (held,) = fetch(engine, DAMAGED)
    engine.start_attempt(held.lease, worker="w")
    engine.finish_attempt(held.lease, AckAction.RETRY, delay_ms=60_000)
    engine.cancel(DAMAGED, "leased")
    engine.put(DAMAGED, Message(task_id="expired"))
    for held in fetch(engine, DAMAGED, lease_ms=1):
        engine.start_attempt(held.lease, worker="w")
    engine.put(DAMAGED, Message(task_id="due", eta_ms=1))
    engine.put(DAMAGED, Message(task_id="scheduled", eta_ms=32_503_680_000_000))
    for number in range(3):
        engine.put(DAMAGED, Message(task_id=f"held{number}", key="k"))
    engine.put(DAMAGED, Message(task_id="ready"))
    engine.put(SOUND, Message(task_id="sound"))
    return engine


def use(engine: Engine) -> None:
    """Every operation on the damaged queue: the server's error is allowed, a crash of the client is not."""
    calls: list[Callable[[], object]] = [
        lambda: engine.put(DAMAGED, Message(task_id="new", key="k")),
        lambda: engine.ack(fetch(engine, DAMAGED, 2)),
        lambda: engine.renew(fetch(engine, DAMAGED, 2)),
        lambda: engine.release(fetch(engine, DAMAGED, 2)),
        lambda: engine.bury(fetch(engine, DAMAGED, 2), reason="test"),
        lambda: [engine.start_attempt(held.lease, worker="w") for held in fetch(engine, DAMAGED, 2)],
        lambda: [engine.finish_attempt(held.lease, AckAction.DONE) for held in fetch(engine, DAMAGED, 2)],
        lambda: engine.cancel(DAMAGED, "ready"),
        lambda: engine.find_many(DAMAGED, ["leased", "ready", "held1", "dead"]),
        lambda: [engine.peek(DAMAGED, state) for state in MessageState],
        lambda: engine.requeue(DAMAGED, ["dead"]),
        lambda: engine.discard(DAMAGED, ["dead"]),
        lambda: engine.stats([DAMAGED]),
        lambda: engine.events(DAMAGED),
        lambda: engine.purge(DAMAGED),
    ]
    for call in calls:
        with suppress(ResponseError):
            call()


def delivers_the_sound_queue(engine: Engine) -> None:
    batch = engine.fetch(RoundRobin({DAMAGED: 1, SOUND: 1}), 20)
    assert "sound" in {held.id for held in batch.deliveries}


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_is_gone(filled: Engine, name: str) -> None:
    filled.runner.call("DEL", filled.keys.key(DAMAGED, name))
    delivers_the_sound_queue(filled)
    use(filled)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_of_another_type(filled: Engine, name: str) -> None:
    filled.runner.call("SET", filled.keys.key(DAMAGED, name), "garbage")
    delivers_the_sound_queue(filled)
    use(filled)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", HASHES)
def test_garbage_in_every_field_of_a_hash(filled: Engine, name: str, garbage: bytes) -> None:
    key = filled.keys.key(DAMAGED, name)
    for field in filled.runner.call("HKEYS", key):
        filled.runner.call("HSET", key, field, garbage)
    delivers_the_sound_queue(filled)
    use(filled)


@pytest.mark.parametrize("name", ["limits", "counters"])
def test_limits_and_counters_that_are_no_numbers(filled: Engine, name: str) -> None:
    key = filled.keys.key(DAMAGED, name)
    for field in ("max_size", "max_in_flight", "interval", "burst", "tat", "journal", "expires", "sequence", "put"):
        filled.runner.call("HSET", key, field, "garbage")
    delivers_the_sound_queue(filled)
    use(filled)


@pytest.mark.parametrize("task", ["ready", "due", "held0", "expired"])
def test_a_message_without_its_record_is_counted_and_the_others_are_delivered(filled: Engine, task: str) -> None:
    filled.runner.call("HDEL", filled.keys.key(DAMAGED, "messages"), filled.find(DAMAGED, task).stored.id)
    wanted = {"ready", "due", "held0", "expired"} - {task} | ({"held1"} if task == "held0" else set[str]())
    delivered: set[str] = set()
    for _ in range(5):
        delivered |= {held.id for held in fetch(filled, DAMAGED, 10)}
    assert delivered == wanted
    assert filled.stats([DAMAGED])[0].counters["unreadable"] == 1


def test_a_lease_on_a_message_without_its_record_is_lost(engine: Engine) -> None:
    engine.put(DAMAGED, Message(task_id="a", key="k"))
    engine.put(DAMAGED, Message(task_id="b", key="k"))
    (held,) = fetch(engine, DAMAGED)
    engine.runner.call("HDEL", engine.keys.key(DAMAGED, "messages"), held.raw_id)
    assert engine.release([held]) == [LeaseStatus.UNKNOWN]
    assert [held.id for held in fetch(engine, DAMAGED)] == ["b"], "the next task of the key is not blocked"
