"""A forked child leaves connections, messages and acks to its parent, and never waits for the parent's locks."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer

from laneway.engine import Engine, Message
from laneway.engine.round_robin import RoundRobin
from laneway.transport import lease_keeper
from tests.fixtures.forking import run_in_child
from tests.fixtures.waiting import wait_until


@pytest.fixture
def connection(engine_url: str) -> Generator[Any]:
    with Connection(engine_url, transport="laneway:Transport", transport_options={"lease": 5}) as connection:
        yield connection


def consume(connection: Any, engine: Engine, n: int) -> tuple[Any, list[Any]]:
    """A consumer that holds n messages."""
    engine.put_many("mine", [Message(task_id=f"t{number}", name="x", body=b"\0[]") for number in range(n)])
    held: list[Any] = []
    consumer = Consumer(connection, [Queue("mine")], on_message=held.append)
    consumer.consume()
    while len(held) < n:
        connection.drain_events(timeout=2)
    return consumer, held


@pytest.mark.parametrize("end", ["collect", "close"])
def test_a_child_that_drops_a_connection_settles_nothing_of_its_parent(
    connection: Any, engine: Engine, end: str
) -> None:
    _, held = consume(connection, engine, 3)
    keeper = connection.transport.lease_keeper
    with keeper._ack_batcher._flushing:  # as another thread holds it while it sends acks
        acking = threading.Thread(target=held[0].ack)
        acking.start()
        wait_until(lambda: len(keeper._ack_batcher) == 1, seconds=5)
        run_in_child(getattr(connection, end))
        assert engine.stats(["mine"])[0].leased == 3
    acking.join(5)
    wait_until(lambda: engine.stats(["mine"])[0].leased == 2, seconds=30)
    assert engine.stats(["mine"])[0].ready == 0


def test_a_child_that_closes_a_channel_gives_nothing_back(connection: Any, engine: Engine) -> None:
    consumer, _ = consume(connection, engine, 3)
    run_in_child(consumer.channel.close)
    assert (engine.stats(["mine"])[0].leased, engine.stats(["mine"])[0].ready) == (3, 0)


def test_the_parent_goes_on_receiving_after_a_child_has_dropped_the_connection(connection: Any, engine: Engine) -> None:
    _, held = consume(connection, engine, 1)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)  # now it listens for wakeups
    run_in_child(connection.collect)
    engine.put("mine", Message(task_id="later", name="x", body=b"\0[]"))
    connection.drain_events(timeout=3)
    assert len(held) == 2


def test_a_child_settles_no_message_that_its_parent_holds(connection: Any, engine: Engine) -> None:
    _, held = consume(connection, engine, 3)

    def settle() -> None:
        held[0].ack()
        held[1].requeue()
        held[2].reject()

    run_in_child(settle)
    assert engine.stats(["mine"])[0].leased == 3


def test_a_child_consumes_on_a_connection_of_its_own_whatever_its_parent_did_during_the_fork(
    connection: Any, engine: Engine, engine_url: str
) -> None:
    consume(connection, engine, 1)
    engine.put("child", Message(task_id="c", name="x", body=b"\0[]"))

    def work() -> None:
        with Connection(engine_url, transport="laneway:Transport") as own:
            message = Queue("child")(own.channel()).get()
            assert message is not None
            message.ack()

    with lease_keeper._sharing:
        run_in_child(work)
    wait_until(lambda: engine.stats(["child"])[0].leased == 0, seconds=5)
    assert engine.stats(["mine"])[0].leased == 1


def test_leases_that_parent_and_child_take_have_different_tokens(engine: Engine) -> None:
    engine.put_many("mine", [Message(task_id=f"t{number}", name="x", body=b"\0[]") for number in range(2)])

    def fetch() -> None:
        [delivery] = engine.fetch(RoundRobin({"mine": 1}), 1).deliveries
        engine.put("tokens", Message(task_id="t", name="x", body=b"\0" + delivery.token))

    run_in_child(fetch)
    [delivery] = engine.fetch(RoundRobin({"mine": 1}), 1).deliveries
    [noted] = engine.fetch(RoundRobin({"tokens": 1}), 1).deliveries
    assert noted.stored.message.body != b"\0" + delivery.token
