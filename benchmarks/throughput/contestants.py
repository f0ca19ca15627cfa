"""The contestants: one Celery app each, equal except for the engine.

The worker processes load this module: `celery -A benchmarks.throughput.contestants worker`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from celery import Celery

import laneway

QUEUE, WARM_QUEUE = "bench", "bench-warm"
NOOP = "bench.noop"
BROKER_DB, RESULT_DB = 0, 1


@dataclass(frozen=True, slots=True)
class Contestant:
    """A Celery app with or without the engine."""

    name: str
    on_engine: bool = False
    result_backend: str = ""
    """The prefix of the result backend's URL."""


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("stock"),
        Contestant("backend", result_backend="laneway:ResultBackend+"),  # the engine's results, on kombu's broker
        Contestant("engine", on_engine=True),
    )
}


def make_app(name: str, url: str, *, prefetch: int) -> Celery:
    """The app of one contestant, with late acks and results, on the server at `url` (without a database)."""
    contestant = CONTESTANTS[name]
    app = Celery(f"bench-{name}", set_as_current=False)
    app.conf.update(
        broker_url=f"{url}/{BROKER_DB}",
        result_backend=f"{contestant.result_backend}{url}/{RESULT_DB}",
        task_acks_late=True,
        task_default_queue=QUEUE,
        worker_prefetch_multiplier=prefetch,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
    )
    if contestant.on_engine:
        laneway.install(app)
    app.task(name=NOOP)(_noop)
    return app


def _noop() -> None:
    """Do nothing: the task that is measured."""


def __getattr__(name: str) -> Any:
    """Make `app` in a worker process, from the environment that the benchmark has set."""
    if name == "app" and "LANEWAY_BENCH_NAME" in os.environ:
        environment = os.environ
        return make_app(
            environment["LANEWAY_BENCH_NAME"],
            environment["LANEWAY_BENCH_URL"],
            prefetch=int(environment["LANEWAY_BENCH_PREFETCH"]),
        )
    raise AttributeError(name)
