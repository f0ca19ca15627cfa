"""Many connections on one queue, and one connection on many queues: how often they ask the server."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer

from laneway.engine import Engine, Flow, Limits, Message
from laneway.transport.poller import KEYS_PER_LISTENER
from tests.fixtures.waiting import wait_until

QUEUE = "work"
CONSUMERS = 40
OPTIONS = {"poll_interval": 15}
"""So long that no consumer polls within a test. A lease is longer."""


def work(task: str, **fields: Any) -> Message:
    return Message(task_id=task, name="x", body=b'{"n":1,"h":{"id":"%s"}}\0{}' % task.encode(), **fields)


class Received:
    """What a consumer has received: task ids, and when each came."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def __call__(self, message: Any) -> None:
        self.at[message.headers["id"]] = time.time()
        message.ack()


def consume(connection: Connection, queues: list[str], received: Received) -> None:
    consumer = Consumer(connection.default_channel, [Queue(queue) for queue in queues], on_message=received)
    consumer.qos(prefetch_count=4)
    consumer.consume()


class Crowd:
    """Consumers of one queue, each with a connection and a thread of its own."""

    def __init__(self, url: str) -> None:
        self.received, self._stop = Received(), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url,)) for _ in range(CONSUMERS)]
        for thread in self._threads:
            thread.start()

    def _run(self, url: str) -> None:
        connection = Connection(url, transport="laneway:Transport", transport_options=OPTIONS)
        consume(connection, [QUEUE], self.received)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=0.5)
        connection.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def crowd(engine_url: str, engine: Engine) -> Generator[Crowd]:
    crowd = Crowd(engine_url)
    wait_until(lambda: blocked_clients(engine) >= CONSUMERS, seconds=60)
    engine.runner.call("CONFIG", "RESETSTAT")
    yield crowd
    crowd.stop()


def blocked_clients(engine: Engine) -> int:
    found = re.search(r"^blocked_clients:(\d+)", engine.runner.call("INFO", "clients").decode(), re.MULTILINE)
    return int(found[1]) if found else 0


def fetches(engine: Engine) -> int:
    """Script calls since CONFIG RESETSTAT that took the server's time: a fetch does it first, an ack does not."""
    text: str = engine.runner.call("INFO", "commandstats").decode()
    found = re.search(r"^cmdstat_time:calls=(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def wake_each(engine: Engine) -> None:
    """Have each consumer of the crowd fetch once, so that each has seen what becomes due. The longest idle is woken."""
    for number in range(CONSUMERS):
        engine.runner.call("ZADD", engine.keys.wakeup(QUEUE), 0, "1")
        wait_until(lambda number=number: fetches(engine) > number, seconds=30)
    engine.runner.call("CONFIG", "RESETSTAT")


def test_few_of_40_idle_consumers_fetch_when_a_message_becomes_due(crowd: Crowd, engine: Engine) -> None:
    due_at = time.time() + 3
    engine.put(QUEUE, work("t", eta_ms=int(due_at * 1000)))
    wait_until(lambda: fetches(engine) == 2, seconds=30)
    engine.runner.call("CONFIG", "RESETSTAT")
    wake_each(engine)
    wait_until(lambda: crowd.received.at, seconds=30)
    assert crowd.received.at["t"] >= due_at - 0.01
    assert fetches(engine) <= 2


def test_few_of_40_idle_consumers_fetch_for_a_message_of_a_rate_limited_queue(crowd: Crowd, engine: Engine) -> None:
    engine.limit(QUEUE, Limits(rate=0.3))
    engine.put_many(QUEUE, [work("first"), work("second")])
    wait_until(lambda: crowd.received.at, seconds=30)
    engine.runner.call("CONFIG", "RESETSTAT")
    wake_each(engine)
    wait_until(lambda: len(crowd.received.at) == 2, seconds=30)
    assert fetches(engine) <= 2


def test_one_connection_consumes_more_queues_than_one_command_waits_for(engine_url: str, engine: Engine) -> None:
    queues = [f"q{number}" for number in range(2 * KEYS_PER_LISTENER + 100)]
    received = Received()
    with Connection(engine_url, transport="laneway:Transport", transport_options=OPTIONS) as connection:
        for queue in queues[::90]:
            engine.put(queue, work(f"before-{queue}"))
        consume(connection, queues, received)
        drain_until(connection, lambda: len(received.at) == len(queues[::90]))
        drain_until(connection, lambda: blocked_clients(engine) == 3)
        engine.runner.call("CONFIG", "RESETSTAT")
        for queue in queues[::275]:
            engine.put(queue, work(queue))
            drain_until(connection, lambda queue=queue: queue in received.at)
        assert fetches(engine) <= 5 * len(queues[::275])


def test_a_message_that_needs_a_label_wakes_the_consumer_that_has_it(engine_url: str, engine: Engine) -> None:
    received, options = Received(), OPTIONS | {"labels": ("gpu", "odd}label")}
    with (
        Connection(engine_url, transport="laneway:Transport", transport_options=OPTIONS) as plain,
        Connection(engine_url, transport="laneway:Transport", transport_options=options) as labelled,
    ):
        consume(plain, [QUEUE], Received())
        drain_until(plain, lambda: blocked_clients(engine) == 1)
        consume(labelled, [QUEUE], received)
        drain_until(labelled, lambda: blocked_clients(engine) == 2)
        for label in options["labels"]:
            put_at = time.time()
            engine.put(QUEUE, work(label, flow=Flow(labels=(label,))))
            drain_until(plain, lambda: engine.stats([QUEUE])[0].ready == 0)  # it was woken, and cannot run it
            drain_until(labelled, lambda label=label: label in received.at)
            assert received.at[label] - put_at < OPTIONS["poll_interval"] / 2


def drain_until(connection: Connection, done: Any) -> None:
    """Let the connection receive until `done()`."""

    def step() -> bool:
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=0.05)
        return bool(done())

    wait_until(step, seconds=60)
