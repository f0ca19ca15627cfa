"""Celery with late acks and stored results: stock, or on Laneway's engine with `BENCH_LANEWAY=1`."""

from __future__ import annotations

import os
import time

from celery import Celery, group
from common import REDIS, SLEEP_SECONDS, Calls, main

app = Celery("bench", broker=f"{REDIS}/0", backend=f"{REDIS}/1")
app.conf.update(
    task_acks_late=True,
    task_default_queue="bench",
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
if os.environ.get("BENCH_LANEWAY"):
    import laneway

    laneway.install(app)


@app.task(name="bench.noop")
def noop() -> None:
    """Do nothing."""


@app.task(name="bench.sleep")
def sleep() -> None:
    """Wait as for a slow service."""
    time.sleep(SLEEP_SECONDS)


def put_many(count: int) -> None:
    """Enqueue by the bulk call that Celery has: a group."""
    group([noop.s() for _ in range(count)]).apply_async()


def drive() -> None:
    """Do what the command line says."""
    main(Calls(noop.delay, lambda: noop.delay().get(timeout=60), sleep.delay, put_many))
