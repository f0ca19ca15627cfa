"""The Celery app under test. Its only task writes into the ledger when its body begins and when it ends."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

from celery import Celery

from benchmarks.chaos.forks import run_child
from benchmarks.chaos.ledger import BEGAN, ENDED, HUNG, Ledger
from benchmarks.chaos.plan import WORKER, from_environment
from benchmarks.chaos.profiles import QUEUE, configure

plan = from_environment()
app = Celery("chaos")
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    result_expires=600,
    worker_hijack_root_logger=False,
    worker_max_tasks_per_child=plan.max_tasks_per_child or None,
)
configure(app, plan)
ledger = Ledger(plan.executed_log)
worker = os.environ.get(WORKER, "")
_numbers = itertools.count()


@app.task(name="chaos.work")
def work(mark: str, seconds: float, fork: str = "") -> float:
    """Sleep for `seconds`, in a forked child if `fork` names a way; record the start and the end in the ledger."""
    # A forked child continues its parent's numbers; its own pid keeps the runs apart.
    run = (worker, os.getpid(), str(next(_numbers)))
    ledger.write(BEGAN, mark, *run)
    if not fork:
        time.sleep(seconds)
    elif not run_child(fork, lambda: _use_connections(seconds)):
        ledger.write(HUNG, mark, *run)
    return ledger.write(ENDED, mark, *run)


def _use_connections(seconds: float) -> None:
    time.sleep(seconds)
    connection: Any = app.connection_for_write()
    with connection:
        connection.default_channel.queue_declare(QUEUE, passive=True)
