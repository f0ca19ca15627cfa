"""What the transport reads from the Celery worker in this process, if there is one.

This module does not import Celery's modules for workers: a producer does not need them, and a process that has not
loaded them is no worker.
"""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakSet

prepared_consumers: WeakSet[Any] = WeakSet()
"""The worker's consumers that have the bootstep of `laneway.install` (`laneway.worker.bootstep`)."""


def worker_state() -> Any | None:
    """The module `celery.worker.state`; None in a process that is no worker."""
    return sys.modules.get("celery.worker.state")


def running_tasks() -> int:
    """How many tasks this worker has started and not finished."""
    state = worker_state()
    return len(state.active_requests) if state else 0


def running_task_ids() -> set[str]:
    """The ids of the tasks that this worker has started and not finished."""
    state = worker_state()
    return {request.id for request in state.active_requests} if state else set()


def has_requests() -> bool:
    """True while this worker holds tasks, whether they run or wait."""
    state = worker_state()
    return bool(state and state.reserved_requests)


def is_stopping() -> bool:
    """True once the worker was told to shut down. Also True in a process that is no worker."""
    state = worker_state()
    if state is None:
        return True
    return any(flag is not None and flag is not False for flag in (state.should_stop, state.should_terminate))
