"""The Celery app under test. Its only task writes into the ledger when its body begins and when it ends."""

from __future__ import annotations

import itertools
import os
import time

from celery import Celery

from benchmarks.chaos.ledger import BEGAN, ENDED, Ledger
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
)
configure(app, plan)
ledger = Ledger(plan.executed_log)
worker = os.environ.get(WORKER, "")
_numbers = itertools.count()


@app.task(name="chaos.work")
def work(mark: str, seconds: float) -> float:
    """Sleep for `seconds`, and record the start and the end in the ledger."""
    # A forked child continues its parent's numbers; its own pid keeps the runs apart.
    run = (worker, os.getpid(), str(next(_numbers)))
    ledger.write(BEGAN, mark, *run)
    time.sleep(seconds)
    return ledger.write(ENDED, mark, *run)
