"""What the model does not cover: connections, durability, lanes' proportions, the server's checks, the bell."""

from __future__ import annotations

import pickle
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from laneway.engine import (
    BadAddress,
    DuplicateTask,
    Durability,
    DurabilityUnavailable,
    Engine,
    EngineError,
    Limits,
    Message,
    NoEviction,
    NotDurable,
    QueueFull,
    RoundRobin,
    ServerLost,
    ServerTooOld,
    Unique,
)
from laneway.engine import errors as error_module
from laneway.engine.connection import RawConnection
from laneway.engine.server_check import check_server
from tests.fixtures.valkey import RunningValkey, free_port

QUEUE = "work"


def work(task_id: str = "t", **fields: object) -> Message:
    return Message(task_id=task_id, name="app.work", **fields)  # pyright: ignore[reportArgumentType]


def test_a_put_repeated_because_its_answer_was_lost_is_taken_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, cuts = RawConnection.receive, [1]

    def cut_once(self: RawConnection, *, timeout: float | None = None) -> object:
        answer = receive(self, timeout=timeout)
        if cuts and answer == []:
            cuts.pop()
            self.close()
            raise ServerLost("cut by the test, after the server had carried it out")
        return answer

    engine.put(QUEUE, work("warm"))
    monkeypatch.setattr(RawConnection, "receive", cut_once)
    engine.put(QUEUE, work("once"))

    assert not cuts
    assert engine.stats([QUEUE])[0].ready == 2


def test_an_unknown_script_is_sent_again_after_the_server_forgot_it(engine: Engine) -> None:
    engine.put(QUEUE, work("a"))
    engine.runner.call("SCRIPT", "FLUSH")
    engine.put(QUEUE, work("b"))
    assert engine.stats([QUEUE])[0].ready == 2


def test_lanes_share_by_weight_and_none_starves(engine: Engine) -> None:
    for queue in ("high", "medium", "low"):
        engine.put_many(queue, [work(f"{queue}-{number}") for number in range(200)])
    lanes = RoundRobin({"high": 6, "medium": 3, "low": 1})
    first = [delivery.queue for _ in range(25) for delivery in engine.fetch(lanes, 4).deliveries]
    assert {queue: first.count(queue) for queue in lanes.queues} == {"high": 60, "medium": 30, "low": 10}


def test_refusals_are_errors_of_their_own(engine: Engine) -> None:
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
        error_module.JournalFull("q", 3),
        error_module.TaskCancelled("a"),
        error_module.TooLate(1.5),
        error_module.UnknownMessage("q", "a"),
        error_module.InvalidMessage("id", "is odd"),
        BadAddress("http", "is odd"),
        ServerTooOld("5.0", "6.2"),
        DurabilityUnavailable("disk", "off"),
        NotDurable("disk", 1.0),
        ServerLost("gone"),
    ]
    for error in samples:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(again), str(again)) == (type(error), str(error))


def test_disk_durability_is_confirmed_by_a_server_that_syncs(engine: Engine) -> None:
    id = engine.put(QUEUE, work("a", id="m-1"), durability=Durability.DISK, timeout=10)
    assert engine.put(QUEUE, work("a", id="m-1"), durability=Durability.DISK, timeout=10) == id
    assert engine.stats([QUEUE])[0].ready == 1


def test_a_server_without_replica_says_not_durable_and_a_repeat_is_safe(engine: Engine) -> None:
    for _ in range(2):
        with pytest.raises(NotDurable):
            engine.put(QUEUE, work("a", id="m-1"), durability=Durability.REPLICA, timeout=0.05)
    assert engine.stats([QUEUE])[0].ready == 1


def test_a_server_that_may_evict_is_warned_of(engine: Engine) -> None:
    engine.runner.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.warns(NoEviction, match="allkeys-lru"):
            engine.check()
    finally:
        engine.runner.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.check()


def test_a_server_that_is_too_old_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laneway.engine.server_check.MINIMUM_VERSION", (99, 0))
    with pytest.raises(ServerTooOld, match=r"needs Redis or Valkey 99\.0"):
        engine.runner.on_connection(lambda wire, _: check_server(wire))


def test_nobody_listening_is_server_lost() -> None:
    with pytest.raises(ServerLost):
        Engine.from_url(f"redis://127.0.0.1:{free_port()}/0").check()


def test_a_restarted_server_is_reached_again_without_the_caller_noticing(tmp_path: Path, valkey: RunningValkey) -> None:
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


def test_one_put_wakes_one_blocked_consumer_and_leftover_work_wakes_the_next(engine: Engine) -> None:
    lanes, woken = RoundRobin({QUEUE: 1}), list[float]()

    def block() -> None:
        wire = engine.runner.connections.take()
        wire.send(("BZPOPMIN", *lanes.bells, 10))
        if wire.receive(timeout=15):
            woken.append(time.monotonic())
        engine.runner.connections.give_back(wire)

    threads = [threading.Thread(target=block) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_for(lambda: blocked(engine) == 2)
    engine.put_many(QUEUE, [work("a"), work("b")])
    wait_for(lambda: len(woken) == 1)
    assert blocked(engine) == 1
    engine.fetch(lanes, 1)
    wait_for(lambda: len(woken) == 2)
    for thread in threads:
        thread.join(10)


def blocked(engine: Engine) -> int:
    info: bytes = engine.runner.call("INFO", "clients")
    return int(next(line for line in info.decode().splitlines() if line.startswith("blocked_clients:")).split(":")[1])


def wait_for(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline, "did not happen in 10 s"
        time.sleep(0.005)
