"""Real Celery workers in processes of their own, for the tests of this folder: fixtures to import by name.

A module for another application than `celery_app` sets `APP` and imports the same fixtures.
"""

from __future__ import annotations

import gc
import importlib
import os
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import _state
from kombu import pools

from laneway.engine import Engine
from tests.fixtures.ending import end_group
from tests.fixtures.forked import start_process
from tests.fixtures.valkey import RedisUrls, RunningValkey

ROOT = Path(__file__).parents[3]
DEFAULT_APP = "tests.laneway.worker.celery_app"
BACKEND = "laneway:ResultBackend+"


class Worker:
    """A worker in a process of its own."""

    def __init__(
        self, pool: str, log: Path, *options: str, app: str = DEFAULT_APP, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        command = ["celery", "-A", app, "worker", "-l", "INFO", "-P", pool, *options]
        with log.open("ab") as output:
            self.process = start_process(
                command, folder=ROOT, environment={**os.environ, **(environment or {})}, output=output
            )

    def wait_until_ready(self) -> Worker:
        wait_for(lambda: " ready." in self.log.read_text(), seconds=60)
        return self

    def kill(self) -> None:
        end_group(self.process)

    def signal(self, number: int) -> None:
        """Send a signal to the worker's main process alone."""
        self.process.send_signal(number)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)


Start = Callable[..., Worker]


@pytest.fixture
def app(request: pytest.FixtureRequest, redis_urls: RedisUrls, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """The module of the application, loaded anew."""
    monkeypatch.setenv("BROKER", redis_urls.broker)
    monkeypatch.setenv("BACKEND", BACKEND + redis_urls.backend)
    announced = set(_state._on_app_finalizers)  # pyright: ignore[reportPrivateUsage]
    module = importlib.reload(importlib.import_module(getattr(request.module, "APP", DEFAULT_APP)))
    yield module
    gc.collect()  # results unsubscribe when they are collected: before the backend is closed, not after
    module.app.backend.result_consumer.stop()
    module.app.close()
    pools.reset()
    # shared tasks: else they are announced to every application that this process makes from now on
    _state._on_app_finalizers.intersection_update(announced)  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def start(app: Any, tmp_path: Path) -> Generator[Start]:
    """A function that starts workers w0, w1, …; they are killed at the end."""
    workers: list[Worker] = []

    def start_one(pool: str, *options: str, environment: Mapping[str, str] | None = None) -> Worker:
        name = f"w{len(workers)}"
        log = tmp_path / f"{name}.log"
        workers.append(Worker(pool, log, "-n", f"{name}@test", *options, app=app.__name__, environment=environment))
        return workers[-1]

    yield start_one
    for worker in workers:
        worker.kill()


@pytest.fixture
def broker(redis_urls: RedisUrls) -> Generator[Engine]:
    """The broker of the workers."""
    engine = Engine.from_url(redis_urls.broker)
    yield engine
    engine.close()


def wait_for(check: Callable[[], bool], *, seconds: float = 30) -> None:
    """Wait until it is true; an error counts as not yet true."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
        except Exception:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, f"did not happen in {seconds} s"
        time.sleep(0.05)


def cut(valkey: RunningValkey) -> None:
    """Close all connections to the server."""
    with redis.Redis(port=valkey.port) as client:
        raw: Any = client
        raw.client_kill_filter(_type="normal", skipme=True)
        raw.client_kill_filter(_type="pubsub")
