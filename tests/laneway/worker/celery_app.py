"""A Celery app on the engine, for workers of tests. `BROKER` and `BACKEND` are in the environment.

With `INSTALL=no` it has the transport alone. While the file `STOP_FILE` exists, each new process of a prefork pool
stops (SIGSTOP) when it is ready for its first job.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.concurrency import asynpool
from celery.exceptions import Reject

import laneway
from laneway.worker import pool_watchdog

pool_watchdog.CHECK_SECONDS = float(os.environ.get("CHECK_SECONDS", pool_watchdog.CHECK_SECONDS))
app = Celery("engine-tests", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    worker_send_task_events=True,
    task_track_started=True,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=4,
    task_create_missing_queues=True,
    laneway_hand_on_seconds=1.0,
)
if os.environ.get("INSTALL") == "no":
    app.conf.broker_transport = "laneway:Transport"
else:
    laneway.install(app, lease=2, weights={"celery": 6, "low": 1})

if "STOP_FILE" in os.environ:
    get_ready = asynpool.Worker.on_loop_start

    def get_ready_and_stop(self: asynpool.Worker, pid: int) -> None:
        """Stop before the first job, while the file exists."""
        get_ready(self, pid)
        if Path(os.environ["STOP_FILE"]).exists():
            os.kill(os.getpid(), signal.SIGSTOP)

    asynpool.Worker.on_loop_start = get_ready_and_stop


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def same(text: str) -> str:
    return text


@app.task(acks_late=True)
def note(folder: str, name: str, seconds: float = 0) -> str:
    """Write when it starts and ends into a file of its own."""
    started = time.time()
    with (Path(folder) / name).open("a") as file:
        file.write(f"start {started}\n")
        file.flush()
        time.sleep(seconds)
        file.write(f"end {time.time()}\n")
    return name


@app.task(bind=True, acks_late=True, max_retries=3)
def flaky(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task(acks_late=True)
def refuse() -> None:
    raise Reject("no", requeue=False)


@app.task(acks_late=True, reject_on_worker_lost=True)
def mark(folder: str, name: str) -> None:
    """Leave a file that shows that it ran. It runs again if its process is killed before it ends."""
    time.sleep(0.01)
    (Path(folder) / name).touch()
