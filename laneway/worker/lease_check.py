"""The last check before a Celery worker starts a task: is the message's lease still held?

A worker that was stopped for longer than a lease (SIGSTOP, a suspended machine) still has the messages that it had
prefetched, although other workers have taken them over. Such a request is dropped at the point where Celery drops a
revoked one. No result is stored.
"""

from __future__ import annotations

import os
from typing import Any

from celery.exceptions import TaskRevokedError
from celery.worker.state import task_ready


def drop_if_lost(request: Any) -> bool:
    """If the request's lease has expired, drop the request and make Celery forget it; True if it must not start."""
    message = request.message
    drop = getattr(getattr(message.channel, "qos", None), "drop_if_lost", None)
    if request.acknowledged or drop is None or not drop(message.delivery_tag):
        return False
    task_ready(request)
    return True


def is_cancelled(request: Any) -> bool:
    """True if the request's message was cancelled while this worker holds it."""
    check = getattr(getattr(request.message.channel, "qos", None), "is_cancelled", None)
    return check is not None and check(request.message.delivery_tag)


def stop_if_lost(request: Any, pid: int) -> None:
    """Raise TaskRevokedError if a pool in this very process (`pid`) is about to run a request that must not start."""
    if pid == os.getpid() and drop_if_lost(request):
        raise TaskRevokedError(request.id)
