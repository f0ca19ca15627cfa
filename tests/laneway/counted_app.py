"""An application on the engine whose worker counts what its own work costs."""

from __future__ import annotations

import dataclasses
import os
from urllib.parse import urlsplit

from celery import Celery

import laneway
from laneway.transport import ack_batcher
from tests.laneway.counting import Counter

app = Celery("counted", broker=os.environ.get("BROKER"), backend=os.environ.get("BACKEND"), set_as_current=False)
app.conf.update(
    task_acks_late=True,
    task_default_queue="counted",
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
laneway.install(app)
ack_batcher.BATCH_SECONDS = 10  # acks are sent by their number, and not by the time, which differs from run to run
_counters: list[Counter] = []


@app.task(name="counted.noop")
def noop() -> None:
    """Do nothing."""


@app.task(name="counted.begin")
def begin() -> None:
    """Count from here on."""
    _counters.append(Counter(urlsplit(str(app.conf.broker_url)).port or 0))
    _counters[-1].start()


@app.task(name="counted.end")
def end(jobs: int) -> dict[str, float]:
    """What each of the jobs since `begin` has cost."""
    counter = _counters.pop()
    found = counter.stop(jobs)
    counter.close()
    return dataclasses.asdict(found)
