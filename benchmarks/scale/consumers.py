"""How many fetches one message costs while many consumers are idle."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from kombu.connection import Connection

from benchmarks.engine_micro import Meter
from benchmarks.scale.figures import Figure
from laneway.engine import Engine, Limits, Message

TARGET = 2.0
APART_MS = 150
"""Time between two messages that fall due."""
RATE = 10.0
"""Deliveries a second of the queue with a rate."""
SETTLE_SECONDS = 1.5
PREFETCH = 100
"""Each consumer has room for all messages, so that none stops listening."""
OPTIONS = {"poll_interval": 60, "lease": 600}
"""Neither a fetch without a wakeup nor a renewal falls into the measurement."""


@dataclass
class Consumers:
    """Consumers of one queue, each with a connection and a thread of its own, that keep what they are given."""

    url: str
    number: int
    queue: str
    received: list[Any] = field(default_factory=list[Any])
    _stopped: Event = field(default_factory=Event)

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        """Consume until the end of the block."""
        with ThreadPoolExecutor(self.number) as pool:
            consuming = [pool.submit(self._consume) for _ in range(self.number)]
            try:
                time.sleep(SETTLE_SECONDS)
                yield
            finally:
                self._stopped.set()
            for each in consuming:
                each.result()

    def _consume(self) -> None:
        kombu: Any = Connection  # its methods have no types
        with kombu(self.url, transport="laneway:Transport", transport_options=OPTIONS) as connection:
            channel = connection.default_channel
            channel.queue_declare(self.queue)
            channel.basic_qos(0, PREFETCH, False)
            channel.basic_consume(self.queue, False, self.received.append, "consumer")
            while not self._stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=0.5)


def fetches_per_message(engine: Engine, url: str, *, consumers: int, messages: int) -> Iterator[Figure]:
    """Script calls of all consumers for a message that falls due, and for one that a rate holds back."""
    for queue, rate, name in (("falls-due", None, "that falls due"), ("rated", RATE, "of a queue with a rate")):
        if rate:
            engine.limit(queue, Limits(rate=rate))
        group = Consumers(url, consumers, queue)
        with group.running():
            calls = _calls(engine, group, messages, apart_ms=0 if rate else APART_MS)
        yield Figure(f"script calls for a message {name}, {consumers} idle consumers", calls, "calls", TARGET)


def _calls(engine: Engine, group: Consumers, messages: int, *, apart_ms: int) -> float:
    """Put messages and wait until they are received; returns the fetches for each of them."""
    meter, first_at = Meter(engine), round(engine.time() * 1000) + 1000
    meter.command("CONFIG", "RESETSTAT")
    for number in range(messages):
        eta_ms = first_at + number * apart_ms if apart_ms else None
        body = b'{"c":1}\0[[], {}, {}]'
        engine.put(group.queue, Message(task_id=f"m-{number}", name="bench.noop", body=body, eta_ms=eta_ms))
    deadline = time.monotonic() + 30 + messages
    while len(group.received) < messages:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(group.received)} of {messages} messages were received")
        time.sleep(0.05)
    time.sleep(SETTLE_SECONDS / 3)  # consumers that were woken in vain count as well
    return (meter.command_stats()["evalsha"][0] - messages) / messages
