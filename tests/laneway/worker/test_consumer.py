"""What a worker tells of its tasks: all of it, in few messages; and what nobody waits for does not get lost."""

# Celery is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

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
from laneway.engine.keys import fanout
from tests.fixtures.valkey import RedisUrls
from tests.laneway.worker.workers import Start, app, broker, start, wait_for

__all__ = ["app", "broker", "start"]
TASKS = 300


class Listener(threading.Thread):
    """Whoever watches the events, as Flower does."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.messages, self.events = 0, Counter[tuple[str, str]]()
        self._client = redis.Redis.from_url(url)
        self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
        self._subscription.subscribe(fanout("celeryev"))
        self._ended = False

    def run(self) -> None:
        while not self._ended:
            message = self._subscription.get_message(timeout=0.1)
            if message is not None:
                self._hear(json.loads(message["data"] or b""))

    def count(self, type: str) -> int:
        """Tasks of which this was told."""
        return sum(1 for said, _ in list(self.events) if said == type)

    def end(self) -> None:
        self._ended = True
        self.join(10)
        self._client.close()

    def _hear(self, message: dict[str, Any]) -> None:
        encoded = message["properties"].get("body_encoding") == "base64"
        said: Any = json.loads(b64decode(message["body"]) if encoded else message["body"])
        events: list[dict[str, Any]] = said if isinstance(said, list) else [said]
        self.messages += any(event["type"].startswith("task-") for event in events)
        self.events.update((event["type"], event.get("uuid", "")) for event in events)


@pytest.fixture
def listener(redis_urls: RedisUrls) -> Generator[Listener]:
    listening = Listener(redis_urls.broker)
    listening.start()
    yield listening
    listening.end()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_each_event_of_each_task_is_told_once_and_many_in_a_message(
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
def test_a_worker_that_stops_has_told_of_all_that_it_did(
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


def test_a_task_that_runs_is_started_to_who_asks_for_its_result_the_first_one_of_a_server_too(
    app: Any, start: Start, tmp_path: Path, broker: Engine
) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    broker.runner.call("SCRIPT", "FLUSH")
    for name in ("first", "second"):
        result = app.note.delay(str(tmp_path), name, 1.5)
        wait_for((tmp_path / name).exists)
        wait_for(lambda result=result: result.state == "STARTED", seconds=1)
        assert result.get(timeout=20) == name
