"""Messages in no state, and references to messages that are gone: found, and put right."""

from __future__ import annotations

import pytest

from laneway.engine import AckAction, Engine, LeaseStatus, Message, MessageState, RoundRobin, Stray, StrayKind, Unique
from laneway.engine.engine import Delivery
from laneway.engine.keys import NAMES
from laneway.engine.message import FORMAT, FORMAT_STEP

QUEUE = "q"


def fetch(engine: Engine, n: int = 10, *, lease_ms: int = 30_000) -> list[Delivery]:
    return engine.fetch(RoundRobin({QUEUE: 1}), n, lease_ms=lease_ms).deliveries


def lose(engine: Engine, name: str, *fields: str) -> None:
    """Delete a key, or fields of it, as another program or an evicting server does."""
    key = engine.keys.key(QUEUE, name)
    if not fields:
        engine.runner.call("DEL", key)
    for field in fields:
        engine.runner.call("HDEL" if name in ("messages", "heads") else "ZREM", key, field)


def repaired(engine: Engine) -> list[Stray]:
    """The findings of a mere look. A repair has some of the same; afterwards there are none."""
    found = list(engine.find_strays(QUEUE))
    fixed = list(engine.find_strays(QUEUE, repair=True))
    assert bool(fixed) == bool(found)
    assert set(fixed) <= set(found)
    assert list(engine.find_strays(QUEUE)) == []
    return found


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A queue with a message in each state."""
    engine.enable_journal(QUEUE, 1000)
    engine.put(QUEUE, Message(task_id="dead"))
    engine.bury(fetch(engine), reason="test")
    engine.put(QUEUE, Message(task_id="leased", unique=Unique("u")))
    fetch(engine)
    engine.put(QUEUE, Message(task_id="scheduled", eta_ms=32_503_680_000_000))
    for id in ("head", "held", "last"):
        engine.put(QUEUE, Message(task_id=id, key="k"))
    return engine


def test_a_healthy_queue_has_no_findings(filled: Engine) -> None:
    assert repaired(filled) == []


@pytest.mark.parametrize("state", ["ready", "scheduled", "held", "dead"])
def test_messages_whose_state_is_evicted_are_found_and_delivered(filled: Engine, state: str) -> None:
    ids = [found.stored.id for found in filled.peek(QUEUE, MessageState(state))]
    lose(filled, state)
    assert {filled.find(QUEUE, id).state for id in ids} == {MessageState.STRAY}

    found = repaired(filled)

    expected = [Stray(QUEUE, StrayKind.MESSAGE, id) for id in ids]
    assert sorted(map(str, found)) == sorted(map(str, expected))
    waiting = {"ready": "ready", "scheduled": "scheduled", "held": "held", "dead": "ready"}[state]
    assert {filled.find(QUEUE, id).state for id in ids} == {MessageState(waiting)}


def test_a_worker_keeps_a_message_whose_lease_is_evicted(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="t"))
    (held,) = fetch(engine)
    lose(engine, "leased")

    assert repaired(engine) == [Stray(QUEUE, StrayKind.MESSAGE, "t")]
    assert fetch(engine) == [], "its worker may live"
    assert engine.ack([held]) == [LeaseStatus.DONE]
    assert engine.stats([QUEUE])[0].leased == 0


def test_a_finished_attempt_whose_lease_is_evicted_is_not_run_again(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="t"))
    (held,) = fetch(engine)
    engine.start_attempt(held.lease, worker="w")
    engine.finish_attempt(held.lease, AckAction.DONE)
    lose(engine, "leased")
    repaired(engine)

    engine.runner.call("ZADD", engine.keys.key(QUEUE, "leased"), 1, "t")
    assert fetch(engine) == []
    assert list(engine.find_strays(QUEUE)) == []


def test_references_without_a_record_are_deleted_and_the_next_of_the_key_is_delivered(filled: Engine) -> None:
    lose(filled, "messages", "head", "scheduled", "dead", "leased")

    found = repaired(filled)

    ids = {stray.id for stray in found if stray.kind is StrayKind.REFERENCE}
    assert ids == {"head", "scheduled", "dead", "leased"}
    assert Stray(QUEUE, StrayKind.UNIQUE, "leased") in found
    assert [held.id for held in fetch(filled)] == ["held"]
    filled.put(QUEUE, Message(task_id="other", unique=Unique("u")))


def test_messages_behind_a_key_without_a_head_are_delivered_in_order(filled: Engine) -> None:
    lose(filled, "ready")
    lose(filled, "messages", "head")
    lose(filled, "heads", "k")

    assert Stray(QUEUE, StrayKind.KEY, "held") in repaired(filled)
    order: list[str] = []
    while deliveries := fetch(filled):
        order += [held.id for held in deliveries]
        filled.ack(deliveries)
    assert order == ["held", "last"]


def test_a_record_that_cannot_be_read_is_kept_as_a_dead_letter(engine: Engine) -> None:
    record = b"\xff" * 9 + b"\x04" + b"\xff" * 30
    engine.runner.call("HSET", engine.keys.key(QUEUE, "messages"), "x", record)

    assert repaired(engine) == [Stray(QUEUE, StrayKind.UNREADABLE, "x")]
    (dead,) = engine.peek(QUEUE, MessageState.DEAD)
    assert dead.dead_info is not None
    assert (dead.stored.message.body, dead.dead_info.reason) == (record, "unreadable")


@pytest.mark.parametrize("id", ["head", "held", "last", "leased", "scheduled", "dead"])
@pytest.mark.parametrize("states", [(), ("ready", "scheduled", "leased", "dead", "held"), ("heads",)])
def test_a_message_that_only_a_newer_version_can_read_is_kept(filled: Engine, id: str, states: tuple[str, ...]) -> None:
    key = filled.keys.key(QUEUE, "messages")
    record: bytes = filled.runner.call("HGET", key, id)
    newer = record[:9] + bytes((record[9] + FORMAT_STEP * (FORMAT + 1),)) + record[10:]
    filled.runner.call("HSET", key, id, newer)
    for state in states:
        lose(filled, state)

    assert id not in {stray.id for stray in repaired(filled) if stray.kind is not StrayKind.KEY}

    assert filled.runner.call("HGET", key, id) == newer
    assert filled.find(QUEUE, id).stored.newer


def test_a_set_aside_message_is_no_finding_and_its_reference_is_one_without_it(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="a", key="k"))
    engine.put(QUEUE, Message(task_id="b", key="k"))
    key = engine.keys.key(QUEUE, "messages")
    record: bytes = engine.runner.call("HGET", key, "a")
    engine.runner.call("HSET", key, "a", record[:9] + bytes((FORMAT_STEP * (FORMAT + 1),)) + record[10:])
    assert fetch(engine) == []
    assert engine.find(QUEUE, "a").state is MessageState.SET_ASIDE
    assert repaired(engine) == []

    lose(engine, "messages", "a")

    assert repaired(engine) == [Stray(QUEUE, StrayKind.REFERENCE, "a")]
    assert [held.id for held in fetch(engine)] == ["b"]
    assert engine.stats([QUEUE])[0].set_aside == 0


def test_what_is_left_of_a_lost_message_does_not_end_the_next_one_of_its_task(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="t", id="t"))
    (held,) = fetch(engine)
    engine.start_attempt(held.lease, worker="w")
    engine.finish_attempt(held.lease, AckAction.DONE)
    lose(engine, "messages")
    repaired(engine)

    engine.put(QUEUE, Message(task_id="t", id="t"))
    (again,) = fetch(engine)
    assert again.deliveries == 1
    assert engine.start_attempt(again.lease, worker="w")[:2] == (LeaseStatus.DONE, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_repair_ends_whatever_key_is_gone_or_garbage(filled: Engine, name: str) -> None:
    lose(filled, name)
    repaired(filled)
    filled.runner.call("SET", filled.keys.key(QUEUE, name), "garbage")
    for repair in (False, True):
        try:
            list(filled.find_strays(QUEUE, repair=repair))
        except Exception as error:  # noqa: BLE001
            assert "WRONGTYPE" in str(error)


def test_thousands_of_strays_are_put_back(engine: Engine) -> None:
    engine.put_many(QUEUE, [Message(task_id=f"t{number}") for number in range(3_000)])
    lose(engine, "ready")
    assert len(repaired(engine)) == 3_000
    assert engine.stats([QUEUE])[0].ready == 3_000
