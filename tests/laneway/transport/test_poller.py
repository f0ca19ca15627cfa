"""How much a consumer fetches, and when: many at a time while tasks wait here, at once when none do."""

# kombu is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer

from laneway.engine import Engine, Message
from laneway.transport.channel import FETCH_SECONDS
from tests.fixtures.waiting import wait_until

QUEUE, BODY = "work", b'{"n":1}\0{}'


class Taker:
    """A consumer that keeps what it is given."""

    def __init__(self, url: str, prefetch: int) -> None:
        self.messages: list[Any] = []
        self.connection = Connection(url, transport="laneway:Transport")
        self.channel: Any = self.connection.default_channel
        self.consumer = Consumer(self.channel, [Queue(QUEUE)], on_message=self.messages.append, accept=["json"])
        self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()

    def drain(self, seconds: float = 0.3) -> int:
        """Take in what comes within that time; how much is held then."""
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
def taker(engine_url: str, engine: Engine) -> Generator[Taker]:
    put(engine, 60)
    taker = Taker(engine_url, 8)
    yield taker
    taker.connection.close()


def put(engine: Engine, n: int) -> None:
    first = int(time.monotonic() * 1e6)
    engine.put_many(
        QUEUE, [Message(task_id=f"t{first + number}", name="x", body=b'{"n":1}\0{}') for number in range(n)]
    )


def test_a_consumer_holds_as_many_as_it_asked_for_also_when_it_asks_for_others(taker: Taker) -> None:
    assert taker.drain() == 8
    taker.consumer.qos(prefetch_count=12)
    assert taker.drain() == 12
    taker.consumer.qos(prefetch_count=4)
    taker.ack(2)
    assert taker.drain() == 10
    taker.ack(9)
    assert taker.drain() == 4


def test_a_little_room_is_filled_a_little_later_and_half_of_it_at_once(taker: Taker) -> None:
    taker.drain()
    taker.ack(1)
    asked = time.monotonic()
    wait_until(taker.one, seconds=5)
    assert time.monotonic() - asked < 5 * FETCH_SECONDS + 0.5
    taker.ack(4)
    assert taker.one(), "half is free: the next look brings some"


def test_what_is_put_while_little_room_is_left_is_not_forgotten(taker: Taker, engine: Engine) -> None:
    engine.purge(QUEUE)
    taker.ack(taker.drain())
    taker.consumer.qos(prefetch_count=8)
    put(engine, 7)
    assert taker.drain() == 7
    put(engine, 1)
    wait_until(taker.one, seconds=5)


def test_nothing_more_is_fetched_while_too_much_waits_to_be_acked(
    taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    taker.drain()
    monkeypatch.setattr("laneway.transport.lease_keeper.MAX_UNCONFIRMED", 0)
    taker.ack(8)
    assert taker.drain() == 0
    monkeypatch.undo()
    assert taker.drain(1.5) == 8
