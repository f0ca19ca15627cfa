"""A worker of stock Celery is killed in the middle; `laneway adopt`, killed too, and a Laneway worker finish.

It goes the way that docs/from-celery.md describes.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis
from celery import chord
from celery.result import AsyncResult
from kombu import pools

from laneway.adopt.layout import Layout
from laneway.engine import Engine, MessageState
from tests.fixtures.ending import end_group
from tests.fixtures.forked import ForkedProcess, start_process
from tests.fixtures.valkey import RedisUrls
from tests.fixtures.waiting import wait_until

ROOT = Path(__file__).parents[2]
APP = "tests.laneway.adopt.shop"
LATE, SOON, CHORDS, PARTS, PLAIN = 190, 10, 20, 9, 1_600
MAIN = "from laneway.cli.main import main; main()"
SOON_SECONDS, LATE_SECONDS = 25, 3600
STEPS = (0, 3, 6, 9)


@pytest.fixture
def shop(redis_urls: RedisUrls, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """The project's module, on kombu's transport."""
    monkeypatch.setenv("BROKER", redis_urls.broker)
    monkeypatch.setenv("BACKEND", redis_urls.backend)
    monkeypatch.setenv("RESULTS", "yes")
    sys.modules.pop(APP, None)
    module = importlib.import_module(APP)
    yield module
    module.notes.close()
    gc.collect()  # results unsubscribe when they are collected: before the backend is closed, not after
    consumer = module.app.backend.result_consumer
    consumer.stop()
    consumer.cancel_for = lambda _id: None  # a result that is collected later must not ask the closed server
    module.app.close()
    pools.reset()


@pytest.fixture
def worker(redis_urls: RedisUrls, tmp_path: Path) -> Iterator[Any]:
    started: list[ForkedProcess] = []

    def start(name: str, *options: str, **environment: str) -> ForkedProcess:
        words = ["celery", "-A", APP, "worker", "-l", "INFO", "-n", f"{name}@test", "-Q", "celery,slow", *options]
        with (tmp_path / f"{name}.log").open("ab") as log:
            urls = {"BROKER": redis_urls.broker, "BACKEND": redis_urls.backend}
            started.append(
                start_process(words, folder=ROOT, environment={**os.environ, **urls, **environment}, output=log)
            )
        return started[-1]

    yield start
    for process in started:
        end_group(process)


def submit(shop: Any) -> tuple[dict[str, tuple[str, int]], dict[str, float], list[AsyncResult]]:
    """Submit 2,000 tasks; return the plain ones with queue and step, those with an ETA by it, and the chords."""
    now = datetime.now(UTC)
    late: dict[str, float] = {}
    chords: list[AsyncResult] = []
    with shop.app.producer_pool.acquire() as producer:
        for number in range(LATE + SOON):
            seconds, name = (LATE_SECONDS, f"late-{number}") if number < LATE else (SOON_SECONDS, f"soon-{number}")
            due = now + timedelta(seconds=seconds)
            late[name] = due.timestamp()
            shop.record.apply_async((name,), eta=due, producer=producer)
        plain: dict[str, tuple[str, int]] = {}
        for number in range(PLAIN):
            if number >= PLAIN // 4 and len(chords) < CHORDS:  # the old worker is killed when it has run some of them
                parts = [shop.add.s(len(chords), part) for part in range(PARTS)]
                chords.append(chord(parts)(shop.total.s(f"chord-{len(chords)}")))
            task, queue = ((shop.record, "celery"), (shop.slow, "slow"))[number % 2]
            step, name = STEPS[number % 4 if number % 3 else 0], f"plain-{number:05}"
            task.apply_async((name,), priority=step, producer=producer)
            plain[name] = queue, step
    return plain, late, chords


def adopt(urls: RedisUrls, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAIN, "adopt", f"{APP}:app", "--apply", "--json", *words]
    environment = {**os.environ, "BROKER": urls.broker, "BACKEND": urls.backend}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ran(backend: redis.Redis) -> list[tuple[str, float]]:
    return [(name, at) for name, at in map(json.loads, backend.lrange("ran", 0, -1))]


def in_kombu(broker: redis.Redis) -> int:
    keys = [key for queue in ("celery", "slow") for _step, key in Layout().keys(queue)]
    return sum(broker.llen(key) for key in keys) + broker.hlen("unacked")


def names_in_kombu(broker: redis.Redis) -> set[str]:
    """The first argument of each message that kombu has."""
    members = [json.loads(member)[0] for member in broker.hvals("unacked")]
    for queue in ("celery", "slow"):
        for _step, key in Layout().keys(queue):
            members += map(json.loads, broker.lrange(key, 0, -1))
    return {str(json.loads(b64decode(member["body"]))[0][0]) for member in members}


def in_engine(broker: redis.Redis) -> int:
    return sum(broker.hlen(f"laneway:{{{queue}}}:messages") for queue in ("celery", "slow"))


def test_every_task_of_a_killed_celery_worker_is_finished_by_a_laneway_worker(
    shop: Any, worker: Any, redis_urls: RedisUrls
) -> None:
    broker, backend = redis.Redis.from_url(redis_urls.broker), redis.Redis.from_url(redis_urls.backend)
    plain, late, chords = submit(shop)
    old = worker("old", "-P", "prefork", "-c", "2")
    wait_until(lambda: len(ran(backend)) > 300, seconds=60)
    end_group(old)
    before = in_kombu(broker)
    delivered = {json.loads(raw)[0]["headers"]["id"] for raw in broker.hvals("unacked")}
    kept = names_in_kombu(broker)
    ran_before = ran(backend)
    assert before > 1_000
    assert len(delivered) >= LATE, "the old worker held the tasks with an ETA"

    killed = adopt(redis_urls, "--take-unacked")
    deadline = monotonic() + 60
    while not broker.hlen("laneway:adopted"):  # without a pause: all of it takes a fraction of a second
        assert monotonic() < deadline
    killed.kill()
    killed.communicate()
    moved = in_engine(broker)
    assert 0 < moved < before, "it was killed in the middle"
    assert in_kombu(broker) + moved == before, "each message is in exactly one of the two"

    out, err = (again := adopt(redis_urls, "--take-unacked")).communicate(timeout=60)
    assert again.returncode == 0, err
    report = json.loads(out)
    assert (report["before"], report["moved"], report["after"]) == (before - moved, before - moved, 0)
    assert sum(report["moved_ever"].values()) == before
    assert (in_kombu(broker), in_engine(broker)) == (0, before)
    engine = Engine.from_url(redis_urls.broker)
    scheduled = [
        info.stored.message.eta_ms for info in engine.peek("celery", MessageState.SCHEDULED, limit=LATE + SOON)
    ]
    engine.close()
    assert sorted(scheduled)[-LATE:] == sorted(int(at * 1000) for name, at in late.items() if name.startswith("late"))

    worker("new", "-P", "threads", "-c", "1", ENGINE="yes")
    wait_until(lambda: in_engine(broker) == LATE, seconds=90)
    entries = ran(backend)
    times = Counter(name for name, _at in entries)
    soon = {name for name in late if name.startswith("soon")}
    wanted = {*plain, *soon, *(f"chord-{number}" for number in range(CHORDS))}
    missing = wanted.difference(times)
    assert set(times) <= wanted
    # kombu pops a message before it notes it as delivered: `kill -9` may have lost the one in between
    assert len(missing) <= 1, missing
    assert missing.isdisjoint(kept), "no message that kombu still had is lost"
    assert all(at >= late[name] for name, at in entries if name in soon)
    assert sum(times.values()) - len(times) <= len(delivered) - LATE, "only what a worker held may run twice"
    for number, result in enumerate(chords):
        if f"chord-{number}" not in missing:
            assert result.get(timeout=10) == sum(number + part for part in range(PARTS))
    since = [name for name, _at in entries[len(ran_before) :] if name in plain]
    for address in set(plain.values()):
        names = [name for name in since if plain[name] == address]
        assert names == sorted(names), f"the order of {address}"
    broker.close()
    backend.close()
