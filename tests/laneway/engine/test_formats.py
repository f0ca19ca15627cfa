"""Records and queues of a newer version: they are left alone, counted and named, and never lost."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from laneway.engine import (
    AckAction,
    Delivery,
    Engine,
    EventKind,
    LeaseStatus,
    Limits,
    Message,
    MessageState,
    NewerQueue,
    RoundRobin,
    script_loader,
)
from laneway.engine.message import FORMAT, FORMAT_STEP, PRIORITIES, pack_id
from laneway.engine.url import make_pool

QUEUE, OTHER = "upgraded", "other"
NEWER = FORMAT + 1


def fetch(engine: Engine, n: int = 10, *, lease_ms: int = 30_000) -> list[Delivery]:
    return engine.fetch(RoundRobin({QUEUE: 1, OTHER: 1}), n, lease_ms=lease_ms).deliveries


def ids(deliveries: list[Delivery]) -> list[str]:
    return [held.id for held in deliveries]


def make_newer(engine: Engine, id: str) -> bytes:
    """Change the record of a message as a newer version may write it; returns the record."""
    key = engine.keys.key(QUEUE, "messages")
    record: bytes = engine.runner.call("HGET", key, pack_id(id))
    record = record[:8] + bytes((0xFF, record[9] + FORMAT_STEP * NEWER)) + b"\xff\xfenobody knows this" + record[10:]
    engine.runner.call("HSET", key, pack_id(id), record)
    return record


def record_of(engine: Engine, id: str) -> bytes:
    return engine.runner.call("HGET", engine.keys.key(QUEUE, "messages"), pack_id(id))


@pytest.fixture
def newer_engine(engine: Engine, engine_url: str, monkeypatch: pytest.MonkeyPatch) -> Generator[Engine]:
    """An engine that reads the next format, too. Its records differ from today's in nothing but the format."""
    constants = {**script_loader.CONSTANTS, "FORMAT": NEWER}
    monkeypatch.setattr(script_loader, "CONSTANTS", constants)
    script_loader.load_scripts.cache_clear()
    newer = Engine(make_pool(engine_url))
    monkeypatch.undo()
    script_loader.load_scripts.cache_clear()
    assert newer.runner.scripts["fetch"].sha != engine.runner.scripts["fetch"].sha
    yield newer
    newer.close()


def put_newer(engine: Engine, message: Message) -> None:
    """Put a message in the next format, which differs from today's in nothing but the format."""
    engine.put(QUEUE, message)
    key = engine.keys.key(QUEUE, "messages")
    raw_id = pack_id(message.id or message.task_id)
    record: bytes = engine.runner.call("HGET", key, raw_id)
    engine.runner.call("HSET", key, raw_id, record[:9] + bytes((record[9] + FORMAT_STEP * NEWER,)) + record[10:])


def test_the_format_is_beside_the_priority() -> None:
    assert PRIORITIES <= FORMAT_STEP


def test_a_message_of_a_newer_format_is_set_aside_and_the_others_are_delivered(engine: Engine) -> None:
    for task in ("a", "b", "c"):
        engine.put(QUEUE, Message(task_id=task))
    record = make_newer(engine, "a")

    assert ids(fetch(engine)) == ["b", "c"]

    stats = engine.stats([QUEUE])[0]
    assert (stats.set_aside, stats.ready, stats.leased, stats.counters["newer"]) == (1, 0, 2, 1)
    assert "unreadable" not in stats.counters
    assert record_of(engine, "a") == record
    assert ids(fetch(engine)) == [], "and it is counted once"
    assert engine.stats([QUEUE])[0].counters["newer"] == 1
    found = engine.find(QUEUE, "a")
    assert found.state is MessageState.SET_ASIDE
    assert [each.stored.id for each in engine.peek(QUEUE, MessageState.SET_ASIDE)] == ["a"]


def test_a_due_message_and_one_whose_lease_expired_are_set_aside(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="due", eta_ms=1))
    engine.put(QUEUE, Message(task_id="scheduled", eta_ms=round(engine.time() * 1000) + 200))
    engine.put(QUEUE, Message(task_id="leased"))
    (due, leased) = fetch(engine, lease_ms=1)
    assert ids([due, leased]) == ["due", "leased"]
    for task in ("due", "scheduled", "leased"):
        make_newer(engine, task)
    deadline = engine.time() + 20
    while engine.stats([QUEUE])[0].set_aside < 3 and engine.time() < deadline:
        assert fetch(engine) == []
    assert engine.stats([QUEUE])[0].set_aside == 3
    assert set(engine.ack([due, leased])) <= {LeaseStatus.STALE, LeaseStatus.UNKNOWN}, "their leases are over"
    assert all(record_of(engine, task) for task in ("due", "scheduled", "leased"))


@pytest.mark.parametrize(
    "act",
    [
        lambda engine: engine.cancel(QUEUE, "a"),
        lambda engine: engine.purge(QUEUE),
        lambda engine: engine.requeue(QUEUE, ["a"]),
        lambda engine: engine.discard(QUEUE, ["a"]),
        lambda engine: engine.find_many(QUEUE, ["a"]),
        lambda engine: [engine.peek(QUEUE, state) for state in MessageState],
        lambda engine: engine.put(QUEUE, Message(task_id="a", id="a")),
        fetch,
    ],
)
@pytest.mark.parametrize("options", [{}, {"key": "k"}, {"eta_ms": 32_503_680_000_000}])
def test_no_operation_deletes_a_message_of_a_newer_format(
    engine: Engine, options: dict[str, object], act: Callable[[Engine], object]
) -> None:
    engine.enable_journal(QUEUE, 1000)
    engine.put(QUEUE, Message(task_id="a", **options))  # pyright: ignore[reportArgumentType]
    record = make_newer(engine, "a")

    act(engine)

    assert record_of(engine, "a") == record
    assert EventKind.CANCEL not in {event.kind for event in engine.events(QUEUE)}
    states = [state for state in MessageState if engine.peek(QUEUE, state)]
    assert len(states) == 1, "it is in one state"


def test_a_dead_letter_of_a_newer_format_is_neither_trimmed_nor_discarded(engine: Engine) -> None:
    engine.limit(QUEUE, Limits(dead_max=1))
    engine.put(QUEUE, Message(task_id="old"))
    engine.bury(fetch(engine), reason="test")
    record = make_newer(engine, "old")
    for task in ("b", "c"):
        engine.put(QUEUE, Message(task_id=task))
        engine.bury(fetch(engine), reason="test")
    assert engine.discard(QUEUE, ["old"]) == [LeaseStatus.UNKNOWN]
    assert engine.requeue(QUEUE, ["old"]) == [LeaseStatus.UNKNOWN]
    assert record_of(engine, "old") == record
    assert engine.peek(QUEUE, MessageState.DEAD)[0].stored.id == "old"


def test_the_later_tasks_of_its_ordering_key_wait(engine: Engine, newer_engine: Engine) -> None:
    for task in ("a", "b"):
        engine.put(QUEUE, Message(task_id=task, key="k"))
    put_newer(engine, Message(task_id="c", key="k"))
    engine.put(QUEUE, Message(task_id="d", key="k"))
    for task in ("a", "b"):
        (held,) = fetch(engine)
        assert held.id == task
        engine.ack([held])
    assert fetch(engine) == [], "c is next, and only a newer version can read it"
    assert engine.stats([QUEUE])[0].set_aside == 1

    for task in ("c", "d"):
        (held,) = fetch(newer_engine)
        assert held.id == task
        newer_engine.ack([held])


def test_a_newer_version_takes_up_what_was_set_aside(engine: Engine, newer_engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="first"))
    put_newer(engine, Message(task_id="new", priority=4))
    put_newer(engine, Message(task_id="later", eta_ms=32_503_680_000_000))
    put_newer(engine, Message(task_id="held", key="k"))
    make_newer(engine, "later")
    assert ids(fetch(engine)) == ["first"]
    assert engine.stats([QUEUE])[0].set_aside == 2

    assert ids(fetch(newer_engine)) == ["new", "held"], "in their old order"
    stats = newer_engine.stats([QUEUE])[0]
    assert (stats.set_aside, stats.scheduled) == (0, 1)
    assert newer_engine.runner.call("HGET", newer_engine.keys.key(QUEUE, "limits"), "newer") is None


def test_a_newer_version_drops_what_was_cancelled_meanwhile(engine: Engine, newer_engine: Engine) -> None:
    put_newer(engine, Message(task_id="a"))
    fetch(engine)
    assert engine.cancel(QUEUE, "a").marked == 1
    (held,) = fetch(newer_engine)
    assert newer_engine.start_attempt(held.lease, worker="w")[0] is LeaseStatus.CANCELLED
    assert newer_engine.ack([held]) == [LeaseStatus.CANCELLED]
    assert newer_engine.stats([QUEUE])[0].ready == 0


def upgrade(engine: Engine) -> None:
    """Mark the queue as a newer version does that has changed it."""
    engine.runner.call("HSET", engine.keys.key(QUEUE, "limits"), "format", 7)


def everything(engine: Engine) -> dict[bytes, bytes]:
    """Every key of the queue with its value, as the server dumps it."""
    keys: list[bytes] = sorted(engine.runner.call("KEYS", engine.keys.queue(QUEUE).replace(b"{", b"\\{") + b":*"))
    return {key: engine.runner.call("DUMP", key) for key in keys}


def test_a_queue_of_a_newer_format_is_neither_read_nor_changed(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="a"))
    (held,) = fetch(engine)
    engine.put(QUEUE, Message(task_id="b"))
    engine.put(OTHER, Message(task_id="other"))
    upgrade(engine)
    before = everything(engine)

    batch = engine.fetch(RoundRobin({QUEUE: 1, OTHER: 1}), 10)
    assert ids(batch.deliveries) == ["other"], "the other queues are served"
    assert batch.broken[QUEUE] == str(NewerQueue(QUEUE, 7))
    calls: list[Callable[[], object]] = [
        lambda: engine.put(QUEUE, Message(task_id="new")),
        lambda: engine.put_many(QUEUE, [Message(task_id="new")]),
        lambda: engine.cancel(QUEUE, "b"),
        lambda: engine.requeue(QUEUE, ["b"]),
        lambda: engine.discard(QUEUE, ["b"]),
        lambda: engine.pause(QUEUE),
        lambda: engine.limit(QUEUE, Limits()),
        lambda: engine.find(QUEUE, "b"),
        lambda: engine.peek(QUEUE, MessageState.READY),
        lambda: engine.events(QUEUE),
        lambda: engine.purge(QUEUE),
        lambda: engine.delete(QUEUE),
        lambda: engine.start_attempt(held.lease, worker="w"),
        lambda: engine.finish_attempt(held.lease, AckAction.DONE),
        lambda: engine.report(held.lease, EventKind.PROGRESS, "{}"),
    ]
    for call in calls:
        with pytest.raises(NewerQueue) as raised:
            call()
        assert (raised.value.queue, raised.value.format) == (QUEUE, 7)
    stats = engine.stats([QUEUE, OTHER])
    assert [(each.format, each.is_newer) for each in stats] == [(7, True), (0, False)]
    assert everything(engine) == before


def test_leases_in_a_queue_of_a_newer_format_are_lost_and_those_of_other_queues_are_not(engine: Engine) -> None:
    for queue in (QUEUE, OTHER):
        engine.put(queue, Message(task_id=queue))
    held = fetch(engine)
    upgrade(engine)
    before = everything(engine)

    for statuses in (engine.renew(held), engine.check_leases(held), engine.ack(held)):
        by_queue = {lease.queue: status for lease, status in zip(held, statuses, strict=True)}
        assert by_queue == {QUEUE: LeaseStatus.UNKNOWN, OTHER: LeaseStatus.DONE}
    assert everything(engine) == before
