"""What a transport adds to Celery's event loop, and removes again."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

from kombu.asynchronous.hub import Hub
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer

from laneway.engine import Engine

RECONNECTS = 5


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def connect_and_lose(url: str, hub: Hub) -> weakref.ref[Any]:
    """Consume on a connection, then replace it as a worker does that has lost it."""
    connection = Connection(url, transport="laneway:Transport")
    Consumer(connection, [Queue("work")]).consume()
    transport: Any = connection.transport
    transport.register_with_event_loop(connection.connection, hub)
    for tick in list(hub.on_tick):
        tick()
    connection.collect()
    connection.close()
    return weakref.ref(transport)


def test_a_lost_connection_leaves_no_descriptor_no_timer_and_no_object(engine_url: str, engine: Engine) -> None:
    hub = Hub()
    connect_and_lose(engine_url, hub)
    gc.collect()
    before = descriptors()
    lost = [connect_and_lose(engine_url, hub) for _ in range(RECONNECTS)]
    gc.collect()
    assert descriptors() == before
    assert not hub.on_tick
    hub.timer.clear()  # a timer that was cancelled is forgotten when it is due; only its entry is left until then
    gc.collect()
    assert [reference() for reference in lost] == [None] * RECONNECTS
    hub.close()
