"""Who is measured: one Celery app each, alike but for broker transport and result backend.

The worker processes load this module: `celery -A benchmarks.throughput.contestants worker`.
"""

# Celery is untyped.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUntypedFunctionDecorator=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from celery import Celery

QUEUE, WARM_QUEUE = "bench", "bench-warm"
NOOP = "bench.noop"
BROKER_DB, RESULT_DB = 0, 1


@dataclass(frozen=True, slots=True)
class Contestant:
    """A broker transport and a result backend."""

    name: str
    transport: str | None
    backend_prefix: str
    amqp: str | None = None
    prefork: str | None = None
    """What serves as the pool `prefork`; None: Celery's."""


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("stock", None, ""),
        Contestant(
            "backend", None, "laneway.results.backend:ResultBackend+"
        ),  # the result backend alone, on kombu's broker
        Contestant(
            "engine",
            "laneway:Transport",
            "laneway.results.backend:ResultBackend+",
            "laneway.worker.producer:AMQP",
            "laneway.worker.prefork:TaskPool",
        ),
    )
}


def make_app(name: str, url: str, *, prefetch: int) -> Celery:
    """The app of one contestant on the server at `url` (without a database); late acks, results on."""
    contestant = CONTESTANTS[name]
    app = Celery(f"bench-{name}", set_as_current=False, amqp=contestant.amqp)
    settings: dict[str, Any] = {
        "broker_url": f"{url}/{BROKER_DB}",
        "result_backend": f"{contestant.backend_prefix}{url}/{RESULT_DB}",
        "task_acks_late": True,
        "task_default_queue": QUEUE,
        "worker_prefetch_multiplier": prefetch,
        "worker_send_task_events": False,
        "broker_connection_retry_on_startup": True,
    }
    if contestant.transport:
        settings["broker_transport"] = contestant.transport
    if contestant.prefork:
        settings["worker_pool"] = contestant.prefork
    app.conf.update(settings)
    app.task(name=NOOP)(_noop)
    return app


def _noop() -> None:
    """Do nothing."""


def __getattr__(name: str) -> Any:
    """`app`, in a worker process: made when Celery asks for it, from what the benchmark put in the environment."""
    if name == "app" and "LANEWAY_BENCH_NAME" in os.environ:
        environment = os.environ
        return make_app(
            environment["LANEWAY_BENCH_NAME"],
            environment["LANEWAY_BENCH_URL"],
            prefetch=int(environment["LANEWAY_BENCH_PREFETCH"]),
        )
    raise AttributeError(name)
