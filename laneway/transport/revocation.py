"""Revokes a task in a Celery worker when a renewal reports that the task was cancelled.

A task that has not started here never starts: its request knows that its message is cancelled
(`laneway.worker.request`). A running task runs on, and is not repeated. With the transport option `cancel_signal` a
running task is ended, as with `control.revoke(..., terminate=True)`, in the pools that can do that (prefork, gevent).
"""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakSet

from celery.signals import worker_ready
from kombu.asynchronous import get_event_loop

from laneway.engine.engine import Delivery
from laneway.transport.celery_worker import prepared_consumers, worker_state

logger = logging.getLogger(__name__)
_consumers: WeakSet[Any] = WeakSet()
"""The worker's consumers. Their pools can end a task."""


@worker_ready.connect(weak=False, dispatch_uid=__name__)
def _remember_consumer(sender: Any, **_: Any) -> None:
    _consumers.add(sender)


def revoke_held(delivery: Delivery, *, signal: str | None) -> None:
    """Revoke the task of a held message; end it with `signal` if it runs. Called once per message, in any thread."""
    state = worker_state()
    if state is None:
        return
    task_id = delivery.stored.message.task_id
    logger.info("Task %s was cancelled while this worker held it", task_id)
    if not any(consumer in prepared_consumers for consumer in tuple(_consumers)):
        state.revoked.add(task_id)  # Celery's own requests know no cancelled messages
    for request in tuple(state.reserved_requests) if signal else ():
        if request.id == task_id and _is_of(request, delivery):
            _terminate_in_loop(request, signal)


def _is_of(request: Any, delivery: Delivery) -> bool:
    holds = getattr(getattr(request.message.channel, "qos", None), "holds", None)
    return holds is not None and holds(request.message.delivery_tag, delivery)


def _terminate_in_loop(request: Any, signal: str | None) -> None:
    """End the task in the thread of the event loop if the worker has one, else in this thread."""
    loop: Any = get_event_loop()
    if loop is None:
        _terminate(request, signal)
    else:
        loop.call_soon(_terminate, request, signal)


def _terminate(request: Any, signal: str | None) -> None:
    state = worker_state()
    consumer = next((consumer for consumer in tuple(_consumers) if consumer.hostname == request.hostname), None)
    if state is None or consumer is None or request not in state.reserved_requests:
        return
    try:
        request.terminate(consumer.pool, signal=signal)
    except NotImplementedError:
        logger.warning("Task %s was cancelled, but this pool cannot end a running task", request.id)
