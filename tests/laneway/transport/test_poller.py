"""How much a consumer fetches and when: many at a time while tasks wait here, at once when none wait."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer

from laneway.engine import Engine, Message
from laneway.transport.channel import FETCH_SECONDS
from tests.fixtures.waiting import wait_until

QUEUE, BODY = "work", b'{"n":1}\0{}'


class KeepingConsumer:
    """A consumer that keeps what it is given."""

    def __init__(self, url: str, prefetch: int) -> None:
        self.messages: list[Any] = []
        self.connection = Connection(url, transport="laneway:Transport")
        self.channel: Any = self.connection.default_channel
        self.consumer = Consumer(self.channel, [Queue(QUEUE)], on_message=self.messages.append, accept=["json"])
        self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()

    def drain(self, seconds: float = 0.3) -> int:
        """Receive messages for `seconds`; how many are held then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                self.connection.drain_events(timeout=0.02)
        return len(self.messages)

    def ack(self, n: int) -> None:
        for _ in range(n):
            self.messages.pop(0).ack()

    def one(self) -> bool:
        before = len(self.messages)
        with contextlib.suppress(TimeoutError):
            self.connection.drain_events(timeout=0.001)
        return len(self.messages) > before


@pytest.fixture
def consumer(engine_url: str, engine: Engine) -> Generator[KeepingConsumer]:
    put(engine, 60)
    consumer = KeepingConsumer(engine_url, 8)
    yield consumer
    consumer.connection.close()


@pytest.fixture
def fill(engine: Engine) -> Generator[Callable[[], object]]:
    """A function that makes the server's memory full until the end of the test."""
    yield lambda: engine.runner.call("CONFIG", "SET", "maxmemory", "1")
    engine.runner.call("CONFIG", "SET", "maxmemory", "0")


class Listener:
    """A consumer of broadcasts."""

    def __init__(self, url: str) -> None:
        self.received: list[Any] = []
        self.connection = Connection(url, transport="laneway:Transport")
        self.channel: Any = self.connection.default_channel

    def subscribe(self, exchange: str) -> None:
        queue = Queue(f"{exchange}-1", Exchange(exchange, type="fanout"), durable=False, auto_delete=True)
        Consumer(self.channel, [queue], on_message=self.received.append, no_ack=True).consume()

    def publish(self, exchange: str, body: str) -> None:
        Producer(self.channel, Exchange(exchange, type="fanout")).publish(body)

    def drain(self) -> list[str]:
        """What has come, once nothing more comes."""
        with contextlib.suppress(TimeoutError):
            while True:
                self.connection.drain_events(timeout=0.3)
        return [message.payload for message in self.received]


@pytest.fixture
def listener(engine_url: str) -> Generator[Listener]:
    listener = Listener(engine_url)
    yield listener
    listener.connection.close()


def put(engine: Engine, n: int) -> None:
    first = int(time.monotonic() * 1e6)
    engine.put_many(
        QUEUE, [Message(task_id=f"t{first + number}", name="x", body=b'{"n":1}\0{}') for number in range(n)]
    )


def test_a_consumer_holds_its_prefetch_count_also_after_it_changes(consumer: KeepingConsumer) -> None:
    assert consumer.drain() == 8
    consumer.consumer.qos(prefetch_count=12)
    assert consumer.drain() == 12
    consumer.consumer.qos(prefetch_count=4)
    consumer.ack(2)
    assert consumer.drain() == 10
    consumer.ack(9)
    assert consumer.drain() == 4


def test_half_of_the_room_is_filled_at_once_and_less_a_little_later(consumer: KeepingConsumer) -> None:
    consumer.drain()
    consumer.ack(1)
    asked = time.monotonic()
    wait_until(consumer.one, seconds=5)
    assert time.monotonic() - asked < 5 * FETCH_SECONDS + 0.5
    consumer.ack(4)
    assert consumer.one(), "half is free: the next call brings some"


def test_a_message_that_is_put_while_little_room_is_left_is_fetched(consumer: KeepingConsumer, engine: Engine) -> None:
    engine.purge(QUEUE)
    consumer.ack(consumer.drain())
    consumer.consumer.qos(prefetch_count=8)
    put(engine, 7)
    assert consumer.drain() == 7
    put(engine, 1)
    wait_until(consumer.one, seconds=5)


def test_nothing_is_fetched_while_too_many_acks_wait(
    consumer: KeepingConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer.drain()
    monkeypatch.setattr("laneway.transport.lease_keeper.MAX_UNCONFIRMED", 0)
    consumer.ack(8)
    assert consumer.drain() == 0
    monkeypatch.undo()
    assert consumer.drain(1.5) == 8


def test_a_broadcast_that_waits_is_delivered_after_another_subscription(listener: Listener) -> None:
    listener.subscribe("news")
    listener.publish("news", "first")
    listener.subscribe("weather")
    listener.publish("weather", "rain")
    assert listener.drain() == ["first", "rain"]


def test_a_broadcast_that_cannot_be_read_is_named_and_the_next_one_arrives(
    listener: Listener, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    listener.subscribe("news")
    for payload in (b"", b"\xff", b"{}", b"7", b"[]"):
        assert engine.runner.call("PUBLISH", engine.keys.fanout("news"), payload) == 1
    listener.publish("news", "good")
    assert listener.drain() == ["good"]
    assert sum("cannot be read and is ignored" in message for message in caplog.messages) == 5


def test_a_consumer_that_has_no_room_keeps_its_connection_when_a_full_server_refuses_to_wake_another(
    engine_url: str, engine: Engine, fill: Callable[[], object]
) -> None:
    consumer = KeepingConsumer(engine_url, 2)
    put(engine, 1)
    wait_until(lambda: consumer.drain(0.05) == 1, seconds=10)
    consumer.consumer.qos(prefetch_count=1)
    put(engine, 1)
    fill()
    assert consumer.drain() == 1
    consumer.ack(1)
    wait_until(lambda: consumer.drain(0.05) == 1, seconds=10)
    consumer.connection.close()


def test_queues_are_declared_and_bound_on_a_full_server(
    engine_url: str, engine: Engine, fill: Callable[[], object]
) -> None:
    fill()
    with Connection(engine_url, transport="laneway:Transport") as connection:
        connection_channel: Any = connection.default_channel
        for name, options in (("lasting", {}), ("replies", {"expires": 10.0})):
            queue = Queue(name, Exchange(f"to {name}", type="direct"), routing_key=name, **options)
            queue(connection_channel).declare()
            assert connection_channel.get_table(f"to {name}") == [(name, "", name)]
