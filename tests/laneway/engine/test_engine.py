"""What the model does not cover: connections, durability, shares of queues, the checks of the server, wakeups."""

from __future__ import annotations

import pickle
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from laneway.engine import (
    DuplicateTask,
    Durability,
    DurabilityUnavailable,
    Engine,
    EngineError,
    EvictionWarning,
    InvalidMessage,
    InvalidUrl,
    JournalFull,
    Limits,
    Message,
    MessageState,
    NewerQueue,
    NotDurable,
    PutCode,
    QueueFull,
    RoundRobin,
    ServerLost,
    ServerTooOld,
    TaskCancelled,
    TooLate,
    Unique,
    UnknownMessage,
)
from laneway.engine.connection import RawConnection
from laneway.engine.errors import InvalidKeyPrefix, InvalidLimit, ServerFull
from laneway.engine.message import encode
from laneway.engine.server_check import check_server
from tests.fixtures.lost_reply import LostReply
from tests.fixtures.valkey import RunningValkey, free_port
from tests.fixtures.waiting import wait_until

QUEUE = "work"


def work(task_id: str = "t", *, id: str | None = None, unique: Unique | None = None) -> Message:
    return Message(task_id=task_id, name="app.work", id=id, unique=unique)


def test_a_put_repeated_because_its_reply_was_lost_is_queued_once(
    engine: Engine, lose_reply: Callable[[LostReply], LostReply]
) -> None:
    engine.put(QUEUE, work("warm"))
    lost_reply = lose_reply(LostReply([]))
    engine.put(QUEUE, work("once"))

    assert lost_reply.lost
    assert engine.stats([QUEUE])[0].ready == 2


def test_a_refusal_whose_reply_was_lost_is_told_by_the_repeat(
    engine: Engine, lose_reply: Callable[[LostReply], LostReply]
) -> None:
    """The repeat must not say that it queued the message, although there would be room by then."""
    engine.limit(QUEUE, Limits(max_size=1))
    engine.put(QUEUE, work("first"))
    lost_reply = lose_reply(LostReply([1, int(PutCode.FULL), 1], on_loss=lambda: engine.purge(QUEUE)))

    with pytest.raises(QueueFull):
        engine.put(QUEUE, work("refused"))

    assert lost_reply.lost
    assert engine.stats([QUEUE])[0].waiting == 0


def test_a_call_that_arrives_behind_a_later_one_of_its_producer_queues_nothing(engine: Engine) -> None:
    for number, task in ((2, "second"), (1, "first")):
        message, record = encode(work(task))
        engine.runner.run("put", (engine.keys.queue(QUEUE),), ("producer", number, "", "", message, record))
    assert [found.stored.id for found in engine.peek(QUEUE, MessageState.READY)] == ["second"]


@pytest.mark.parametrize("messages", [1, 3])
def test_a_put_whose_first_sending_arrives_after_its_repetition_is_queued_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, messages: int
) -> None:
    engine.put(QUEUE, work("warm"))
    engine.put(QUEUE, work("taken", id="taken"))
    held_back: list[tuple[RawConnection, bytes]] = []
    write = RawConnection._write

    def hold_back(connection: RawConnection, packed: bytes) -> None:
        if held_back:
            write(connection, packed)
        else:
            held_back.append((connection, packed))
            raise ServerLost("the network holds the command back")

    monkeypatch.setattr(RawConnection, "_write", hold_back)
    batch = [work(f"t{number}") for number in range(messages - 1)] + [work("taken")]  # the last one gets another id
    ids = [result.id for result in engine.put_many(QUEUE, batch)]
    ((connection, packed),) = held_back
    write(connection, packed)
    connection.receive()
    assert engine.stats([QUEUE])[0].ready == 2 + messages
    assert len({*ids, "taken"}) == messages + 1
    engine.put(QUEUE, work("next"))
    assert engine.stats([QUEUE])[0].ready == 3 + messages


def test_a_script_is_sent_again_after_the_server_forgot_it(engine: Engine) -> None:
    engine.put(QUEUE, work("a"))
    engine.runner.call("SCRIPT", "FLUSH")
    engine.put(QUEUE, work("b"))
    assert engine.stats([QUEUE])[0].ready == 2


def test_queues_share_by_weight_and_none_starves(engine: Engine) -> None:
    for queue in ("high", "medium", "low"):
        engine.put_many(queue, [work(f"{queue}-{number}") for number in range(200)])
    round_robin = RoundRobin({"high": 6, "medium": 3, "low": 1})
    first = [delivery.queue for _ in range(25) for delivery in engine.fetch(round_robin, 4).deliveries]
    assert {queue: first.count(queue) for queue in round_robin.queues} == {"high": 60, "medium": 30, "low": 10}


def test_each_refusal_is_an_error_of_its_own(engine: Engine) -> None:
    engine.limit(QUEUE, Limits(max_size=1))
    engine.put(QUEUE, work("a", unique=Unique("u")))
    with pytest.raises(QueueFull) as full:
        engine.put(QUEUE, work("b"))
    assert (full.value.queue, full.value.size) == (QUEUE, 1)
    engine.limit(QUEUE, Limits())
    with pytest.raises(DuplicateTask) as duplicate:
        engine.put(QUEUE, work("c", unique=Unique("u")))
    assert duplicate.value.existing == "a"


def test_every_error_survives_pickling() -> None:
    samples: list[EngineError] = [
        DuplicateTask("a"),
        QueueFull("q", 3),
        JournalFull("q", 3),
        TaskCancelled("a"),
        TooLate(1.5),
        UnknownMessage("q", "a"),
        NewerQueue("q", 7),
        InvalidMessage("id", "is odd"),
        InvalidUrl("http", "is odd"),
        ServerTooOld("5.0", "6.2"),
        DurabilityUnavailable("disk", "off"),
        NotDurable("disk", 1.0),
        ServerLost("gone"),
        ServerFull("OOM"),
        InvalidKeyPrefix("{a}", 200),
        InvalidLimit("rate", "is odd"),
    ]
    assert {type(error) for error in samples} == {
        error for error in EngineError.__subclasses__() if error.__module__ == EngineError.__module__
    }
    for error in samples:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(copy), str(copy)) == (type(error), str(error))


def test_a_server_that_syncs_confirms_disk_durability(engine: Engine) -> None:
    id = engine.put(QUEUE, work("a", id="m-1"), durability=Durability.DISK, timeout=10)
    assert engine.put(QUEUE, work("a", id="m-1"), durability=Durability.DISK, timeout=10) == id
    assert engine.stats([QUEUE])[0].ready == 1


def test_without_a_replica_a_put_is_not_durable_and_a_repeat_is_safe(engine: Engine) -> None:
    for _ in range(2):
        with pytest.raises(NotDurable, match=r"'replica' within 0\.05 s"):
            engine.put(QUEUE, work("a", id="m-1"), durability=Durability.REPLICA, timeout=0.05)
    assert engine.stats([QUEUE])[0].ready == 1


def test_a_server_that_may_evict_causes_a_warning(engine: Engine) -> None:
    engine.runner.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.warns(EvictionWarning, match="allkeys-lru"):
            engine.check()
    finally:
        engine.runner.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.check()


def test_a_server_that_is_too_old_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laneway.engine.server_check.MINIMUM_VERSION", (99, 0))
    with pytest.raises(ServerTooOld, match=r"needs Redis or Valkey 99\.0"):
        engine.runner.on_connection(check_server)


def test_a_port_without_a_server_raises_server_lost() -> None:
    with pytest.raises(ServerLost):
        Engine.from_url(f"redis://127.0.0.1:{free_port()}/0").check()


def test_a_restarted_server_is_reached_again_without_an_error(tmp_path: Path, valkey: RunningValkey) -> None:
    server = RunningValkey(tmp_path, port=free_port())
    server.start()
    try:
        engine = Engine.from_url(server.url(0))
        engine.put(QUEUE, work("a"))
        server.restart()
        engine.put(QUEUE, work("b"))
        assert {delivery.id for delivery in engine.fetch(RoundRobin({QUEUE: 1}), 5).deliveries} >= {"b"}
        engine.close()
    finally:
        server.stop()


def test_a_put_wakes_one_blocked_consumer_and_remaining_work_wakes_the_next(engine: Engine) -> None:
    round_robin, woken = RoundRobin({QUEUE: 1}), list[float]()

    def block() -> None:
        connection = engine.runner.connections.take()
        connection.send(("BZPOPMIN", *map(engine.keys.wakeup, round_robin.queues), 10))
        if connection.receive(timeout=15):
            woken.append(time.monotonic())
        engine.runner.connections.give_back(connection)

    threads = [threading.Thread(target=block) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: blocked_clients(engine) == 2, seconds=10)
    engine.put_many(QUEUE, [work("a"), work("b")])
    wait_until(lambda: len(woken) == 1, seconds=10)
    assert blocked_clients(engine) == 1
    engine.fetch(round_robin, 1)
    wait_until(lambda: len(woken) == 2, seconds=10)
    for thread in threads:
        thread.join(10)


def blocked_clients(engine: Engine) -> int:
    info: bytes = engine.runner.call("INFO", "clients")
    return int(next(line for line in info.decode().splitlines() if line.startswith("blocked_clients:")).split(":")[1])


def test_the_first_owner_of_a_database_keeps_it_until_it_is_replaced(engine: Engine) -> None:
    assert engine.mark("ours") == engine.mark("theirs") == "ours"
    assert engine.mark("theirs", replace=True) == engine.mark("ours") == "theirs"
