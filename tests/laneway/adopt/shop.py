"""A Celery project for tests of `laneway adopt`: on kombu's transport, or with `ENGINE=yes` on the engine.

It keeps results with `RESULTS=yes`.
"""

from __future__ import annotations

import json
import os
import time

import redis
from celery import Celery

import laneway

RESULTS = os.environ["BACKEND"] if os.environ.get("RESULTS") == "yes" else None
app = Celery("shop", broker=os.environ["BROKER"], backend=RESULTS, set_as_current=False)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_routes={"shop.slow": {"queue": "slow"}},
    worker_prefetch_multiplier=4,
)
if os.environ.get("ENGINE") == "yes":
    laneway.install(app, lease=2, zero_goes_first=True)
notes = redis.Redis.from_url(os.environ["BACKEND"])


def note(name: str) -> str:
    """Write down that a task ran, and when."""
    notes.rpush("ran", json.dumps([name, time.time()]))
    return name


@app.task(shared=False, name="shop.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(shared=False, name="shop.record")
def record(name: str) -> str:
    return note(name)


@app.task(shared=False, name="shop.slow")
def slow(name: str) -> str:
    return note(name)


@app.task(shared=False, name="shop.total")
def total(numbers: list[int], name: str) -> int:
    note(name)
    return sum(numbers)
