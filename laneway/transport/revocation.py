"""What a Celery worker does when it hears, at a renewal, that a message it holds was cancelled.

A task that has not started here never will: it is revoked as by `control.revoke`. One that runs goes on
and is not repeated; with `cancel_signal` among the transport options it is ended as by
`control.revoke(..., terminate=True)`, in the pools that can do that (prefork, gevent).
"""

from __future__ import annotations

import logging
import sys
from typing import Any
from weakref import WeakSet

from laneway.engine.engine import Delivery

logger = logging.getLogger(__name__)
_consumers: WeakSet[Any] = WeakSet()


def remember_consumers() -> None:
    """In a worker process: know its consumer, whose pool can end a task."""
    if "celery.worker.consumer.consumer" in sys.modules:
        from celery.signals import worker_ready

        worker_ready.connect(_remember, weak=False, dispatch_uid=__name__)


def on_cancelled(delivery: Delivery, *, signal: str | None) -> None:
    """Called once for each held message whose task was cancelled, in any thread."""
    state = sys.modules.get("celery.worker.state")
    if state is None:
        return
    task_id = delivery.stored.message.task_id
    state.revoked.add(task_id)
    started = [request for request in tuple(state.reserved_requests) if request.id == task_id]
    logger.info("Task %s was cancelled while this worker held it", task_id)
    for request in started if signal else ():
        _soon(request, signal)


def _remember(sender: Any, **_: Any) -> None:
    _consumers.add(sender)


def _soon(request: Any, signal: str | None) -> None:
    """End it in the event loop's own thread, if the worker has such a loop."""
    from kombu.asynchronous import get_event_loop

    loop: Any = get_event_loop()
    if loop is None:
        _end(request, signal)
    else:
        loop.call_soon(_end, request, signal)


def _end(request: Any, signal: str | None) -> None:
    from celery.worker.state import reserved_requests

    consumer = next((one for one in tuple(_consumers) if one.hostname == request.hostname), None)
    if consumer is None or request not in reserved_requests:
        return
    try:
        request.terminate(consumer.pool, signal=signal)
    except NotImplementedError:
        logger.warning("Task %s was cancelled, but this pool cannot end a task that runs", request.id)
