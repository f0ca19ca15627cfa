"""The last look before a Celery worker starts a task: is the message's lease still held?

A worker that was stopped for longer than a lease (SIGSTOP, a swapped machine) still has what it had
prefetched, while others have taken those messages over. Celery lets an application choose the class of
its requests; this one drops such a request where Celery would drop a revoked one, without any result.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from laneway.worker.pool_watchdog import watch_pools

CELERYS_OWN = "celery.worker.request:Request"
CHECKING = "laneway.worker.request:Request"
CELERYS_STRATEGY = "celery.worker.strategy:default"
HANDING_OVER = "laneway.worker.strategy:default"


def check_leases_before_start() -> None:
    """In a worker process, have requests made that check; a class that the application chose itself stays."""
    if "celery.worker.consumer.consumer" not in sys.modules:
        return
    from celery.app.task import Task

    watch_pools()
    if Task.Request == CELERYS_OWN:
        Task.Request = CHECKING
    if Task.Strategy == CELERYS_STRATEGY:
        Task.Strategy = HANDING_OVER


def drop_if_lost(request: Any) -> bool:
    """True if the request must not start; Celery has forgotten it then."""
    from celery.worker.state import task_ready

    message = request.message
    lost = getattr(getattr(message.channel, "qos", None), "lost", None)
    if request.acknowledged or lost is None or not lost(message.delivery_tag):
        return False
    task_ready(request)
    return True


def stop_if_lost(request: Any, pid: int) -> None:
    """In a pool of this very process, which is about to run it: raises TaskRevokedError if it must not."""
    from celery.exceptions import TaskRevokedError

    if pid == os.getpid() and drop_if_lost(request):
        raise TaskRevokedError(request.id)
