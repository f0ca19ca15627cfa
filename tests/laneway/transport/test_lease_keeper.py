"""The messages that a consumer holds: a cut connection, a stop longer than the lease, one message at a time."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer

from laneway.engine import Engine, Message, MessageState, RoundRobin
from laneway.engine.elapsed import elapsed
from laneway.engine.engine import Delivery
from laneway.transport.lease_keeper import LeaseKeeper
from tests.fixtures.relay import relay_to
from tests.fixtures.valkey import RedisUrls, RunningValkey
from tests.fixtures.waiting import wait_until
from tests.laneway.worker.workers import Start, app, broker, start, wait_for

__all__ = ["app", "broker", "start"]


@pytest.fixture
def connection(engine_url: str) -> Generator[Any]:
    with Connection(engine_url, transport="laneway:Transport", transport_options={"lease": 2}) as connection:
        yield connection


def test_drain_events_delivers_one_message_a_call(connection: Any, engine: Engine) -> None:
    engine.put_many("several", [Message(task_id=f"t{n}", name="x", body=b"\0[]") for n in range(3)])
    seen: list[Any] = []
    with Consumer(connection, Queue("several"), on_message=seen.append):
        for count in (1, 2, 3):
            connection.drain_events(timeout=2)
            assert len(seen) == count
        for message in seen:
            message.ack()


@pytest.mark.parametrize("settled", ["during the renewal", "with an ack that is not sent yet"])
def test_a_cancellation_is_forgotten_with_its_message(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, settled: str
) -> None:
    """Else a later message, whose object may lie at the same place in memory, would be taken for a cancelled one."""
    reported: list[Delivery] = []
    keeper = LeaseKeeper(engine, lease_ms=60_000, on_cancelled=reported.append)
    engine.put("mine", Message(task_id="t", name="x", body=b"\0[]"))
    (delivery,) = engine.fetch(RoundRobin({"mine": 1}), 1).deliveries
    keeper.hold(delivery, since=elapsed())
    assert engine.cancel("mine", "t").marked == 1
    renew = engine.renew

    def renew_and_settle(*arguments: Any, **options: Any) -> Any:
        codes = renew(*arguments, **options)
        keeper.drop(delivery)
        return codes

    if settled == "during the renewal":
        monkeypatch.setattr(engine, "renew", renew_and_settle)
    else:
        waiting = keeper._ack_batcher._unconfirmed  # pyright: ignore[reportPrivateUsage]
        waiting[id(delivery)] = delivery
        keeper.drop(delivery)
    keeper.renew()

    assert (keeper.is_cancelled(delivery), reported) == (False, [])
    keeper._ack_batcher._unconfirmed.clear()  # pyright: ignore[reportPrivateUsage]
    engine.ack([delivery])


@pytest.mark.parametrize("timeout", [{}, {"socket_timeout": 120}])
def test_a_lease_outlives_a_connection_that_goes_silent(
    engine_url: str, engine: Engine, valkey: RunningValkey, timeout: dict[str, int]
) -> None:
    engine.put("mine", Message(task_id="t", name="x", body=b"\0[]"))
    with relay_to(valkey.port) as relay:
        url = engine_url.replace(str(valkey.port), str(relay.port))
        with Connection(url, transport="laneway:Transport", transport_options={"lease": 3, **timeout}) as connection:
            message = Queue("mine")(connection.channel()).get()
            keeper = connection.transport.lease_keeper
            wait_until(lambda: keeper.engine.runner.connections._idle, seconds=5)  # it has renewed the lease once
            relay.silence()
            silent_since = time.monotonic()
            while time.monotonic() - silent_since < 6:  # two leases
                assert engine.fetch(RoundRobin({"mine": 1}), 1).deliveries == []
                time.sleep(0.1)
            message.ack()
            keeper.flush()
    assert engine.stats(["mine"])[0].leased == 0


def test_a_deleted_reply_queue_causes_no_warning(
    connection: Any, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "laneway")
    channel = connection.channel()
    read: list[Any] = []
    for number in range(5):
        queue = Queue(f"reply{number}", Exchange("replies"), f"reply{number}", no_ack=True, auto_delete=True)(channel)
        queue.declare()
        engine.put(queue.name, Message(task_id="t", name="x", body=b"\0[]"))
        with Consumer(channel, [queue], on_message=read.append, no_ack=True):
            connection.drain_events(timeout=2)
        queue.delete()
    connection.close()
    assert len(read) == 5
    assert caplog.messages == []


def test_a_closed_channel_gives_its_messages_back_at_once(connection: Any, engine: Engine) -> None:
    engine.put("mine", Message(task_id="t", name="x", body=b"\0[]"))
    channel = connection.channel()
    message = Queue("mine")(channel).get()
    assert message is not None
    assert engine.stats(["mine"])[0].leased == 1
    channel.close()
    assert engine.stats(["mine"])[0].ready == 1


def test_a_blocking_pool_acks_each_message_before_the_next_task_ends(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    for number in range(3):
        app.note.delay(str(tmp_path), f"n{number}", 2.5)
    start("solo", "-c", "1")
    wait_for((tmp_path / "n1").exists)
    wait_for(lambda: broker.stats(["celery"])[0].leased == 2, seconds=2)
    assert "end" not in (tmp_path / "n1").read_text()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_cut_connection_repeats_no_task_that_the_pool_has(
    app: Any, start: Start, broker: Engine, tmp_path: Path, redis_urls: RedisUrls, pool: str
) -> None:
    start(pool, "-c", "1").wait_until_ready()
    for number in range(3):  # the worker has room for one more, so it listens and notices the cut
        app.note.delay(str(tmp_path), f"n{number}", 2.5 if number == 0 else 0.5)
    wait_for((tmp_path / "n0").exists)
    start(pool, "-c", "2").wait_until_ready()
    broker.runner.call("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes")
    wait_for(lambda: _ended(tmp_path) >= 3)
    wait_for(lambda: broker.stats(["celery"])[0].leased == 0)
    assert _starts(tmp_path) == {f"n{number}": 1 for number in range(3)}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_runs_through_a_restart_of_the_server_runs_once(
    app: Any, start: Start, broker: Engine, tmp_path: Path, redis_urls: RedisUrls, pool: str
) -> None:
    start(pool, "-c", "1").wait_until_ready()
    app.note.delay(str(tmp_path), "n0", 4)
    wait_for((tmp_path / "n0").exists)
    redis_urls.valkey.restart()
    wait_for(lambda: _ended(tmp_path) == 1)
    wait_for(lambda: broker.stats(["celery"])[0].leased == 0)
    assert broker.stats(["celery"])[0].waiting == 0
    assert _starts(tmp_path) == {"n0": 1}


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_stopped_past_its_leases_does_not_start_lost_messages(
    app: Any, start: Start, broker: Engine, tmp_path: Path, pool: str
) -> None:
    for number in range(4):
        app.note.delay(str(tmp_path), f"n{number}", 2 if number == 0 else 0.5)
    stopped = start(pool, "-c", "1")
    wait_for((tmp_path / "n0").exists)
    assert broker.stats(["celery"])[0].leased == 4
    os.killpg(stopped.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    start("threads", "-c", "4").wait_until_ready()
    wait_for(lambda: _starts(tmp_path).keys() == {f"n{number}" for number in range(4)})
    wait_for(lambda: time.monotonic() - began > 2.5)
    os.killpg(stopped.process.pid, signal.SIGCONT)
    wait_for(lambda: broker.stats(["celery"])[0].leased == 0 and broker.stats(["celery"])[0].waiting == 0)
    wait_for(lambda: _ended(tmp_path) == 5)
    assert {name: count for name, count in _starts(tmp_path).items() if name != "n0"} == {"n1": 1, "n2": 1, "n3": 1}


def test_a_message_that_celery_cannot_decode_becomes_a_dead_letter(app: Any, start: Start, broker: Engine) -> None:
    start("solo").wait_until_ready()
    with app.app.connection_for_write() as connection, connection.channel() as channel:
        send: Any = Producer(channel).publish
        plain: dict[str, Any] = {"routing_key": "celery", "content_encoding": "utf-8"}
        send("{broken", content_type="application/json", **plain)
        send("what", content_type="application/x-nobody-knows", **plain)
        headers = {"task": app.add.name, "id": "some-id"}
        send("[[1, 2", content_type="application/json", headers=headers, **plain)
    wait_for(lambda: broker.stats(["celery"])[0].dead == 3)
    dead = broker.peek("celery", MessageState.DEAD)
    assert {body.stored.message.body.partition(b"\0")[2] for body in dead} == {b"{broken", b"what", b"[[1, 2"}
    assert app.add.delay(2, 2).get(timeout=20) == 4


def _starts(folder: Path) -> dict[str, int]:
    return {path.name: path.read_text().count("start") for path in folder.glob("n?")}


def _ended(folder: Path) -> int:
    return sum(path.read_text().count("end") for path in folder.glob("n?"))


def test_a_message_whose_lease_ended_while_the_machine_was_suspended_is_not_handed_out(
    connection: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.put_many("mine", [Message(task_id=f"t{number}", name="x", body=b"\0[]") for number in range(2)])
    seen: list[Any] = []
    with Consumer(connection, Queue("mine"), on_message=seen.append):
        connection.drain_events(timeout=2)  # the second message waits in this process
        now = elapsed()
        monkeypatch.setattr("laneway.transport.lease_keeper.elapsed", lambda: now + 60)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.2)
    assert len(seen) == 1
