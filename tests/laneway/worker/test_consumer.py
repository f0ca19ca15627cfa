"""A worker publishes all events of its tasks in few messages, and loses none that it does not wait for."""

from __future__ import annotations

import json
import signal
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import redis

from laneway.engine import Engine
from laneway.engine.keys import Keyspace
from tests.fixtures.valkey import RedisUrls
from tests.laneway.worker.workers import Start, app, broker, start, wait_for

__all__ = ["app", "broker", "start"]
TASKS = 300


class Listener(threading.Thread):
    """Counts events, as Flower does."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.messages, self.events = 0, Counter[tuple[str, str]]()
        self._client = redis.Redis.from_url(url)
        self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
        self._subscription.subscribe(Keyspace().fanout("celeryev"))
        self._stopped = False

    def run(self) -> None:
        while not self._stopped:
            message = self._subscription.get_message(timeout=0.1)
            if message is not None:
                self._count(json.loads(message["data"] or b""))

    def count(self, type: str) -> int:
        """How many tasks have an event of this type."""
        return sum(1 for kind, _ in list(self.events) if kind == type)

    def end(self) -> None:
        self._stopped = True
        self.join(10)
        self._client.close()

    def _count(self, message: dict[str, Any]) -> None:
        encoded = message["properties"].get("body_encoding") == "base64"
        content: Any = json.loads(b64decode(message["body"]) if encoded else message["body"])
        events: list[dict[str, Any]] = content if isinstance(content, list) else [content]
        self.messages += any(event["type"].startswith("task-") for event in events)
        self.events.update((event["type"], event.get("uuid", "")) for event in events)


@pytest.fixture
def listener(redis_urls: RedisUrls) -> Generator[Listener]:
    listening = Listener(redis_urls.broker)
    listening.start()
    yield listening
    listening.end()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_each_event_is_published_once_and_many_in_one_message(
    app: Any, start: Start, listener: Listener, pool: str
) -> None:
    start(pool, "-c", "2").wait_until_ready()
    for number in range(TASKS):
        app.add.delay(number, 1)
    wait_for(lambda: listener.count("task-succeeded") == TASKS)
    assert all(listener.count(f"task-{what}") == TASKS for what in ("received", "started", "succeeded"))
    assert max(listener.events.values()) <= 2  # of the worker's own heartbeat there are many, of a task's event one
    assert listener.messages < TASKS


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_publishes_all_events_before_it_stops(
    app: Any, start: Start, listener: Listener, tmp_path: Path, pool: str
) -> None:
    worker = start(pool, "-c", "1").wait_until_ready()
    result = app.note.delay(str(tmp_path), "n", 1.5)
    wait_for((tmp_path / "n").exists)
    worker.signal(signal.SIGTERM)
    assert worker.process.wait(30) == 0
    wait_for(lambda: listener.count("task-succeeded") == 1, seconds=5)
    assert result.get(timeout=5) == "n"


def test_events_go_on_after_the_connection_broke(app: Any, start: Start, listener: Listener, broker: Engine) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    app.add.delay(1, 1)
    wait_for(lambda: listener.count("task-succeeded") == 1)
    broker.runner.call("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes")
    for number in range(5):
        app.add.delay(number, 1)
    wait_for(lambda: listener.count("task-succeeded") == 6)


def test_a_running_task_has_the_state_started_also_when_the_server_has_no_scripts_yet(
    app: Any, start: Start, tmp_path: Path, broker: Engine
) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    broker.runner.call("SCRIPT", "FLUSH")
    for name in ("first", "second"):
        result = app.note.delay(str(tmp_path), name, 1.5)
        wait_for((tmp_path / name).exists)
        wait_for(lambda result=result: result.state == "STARTED", seconds=1)
        assert result.get(timeout=20) == name
