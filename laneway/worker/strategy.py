"""Prefork children hand their results to the parent; see `laneway.worker.lease_check`.

Celery lets a task choose how a worker takes in its messages. This choice is Celery's own but for one thing: a
prefork child that has run a task does not store the result itself, at the price of a round trip, but gives it to
the parent with its answer. There results wait for the acks and are stored together (`commits.py`). A child that
dies in between has given nothing: its task was not acked either, and runs again.

Handed over are results of tasks that ack late and that nothing follows (`backend.py`), if they are not large;
all others the child stores as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from celery.app.trace import fast_trace_task
from celery.concurrency.prefork import TaskPool
from celery.worker import strategy

from laneway.results.store import Record, ResultStore, hold_back


def default(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """What to do with each message of this task."""
    store = getattr(task.backend, "results", None)
    if task.acks_late and isinstance(store, ResultStore) and isinstance(consumer.pool, TaskPool):
        consumer = _Consumer(consumer, _Pool(consumer.pool, store))
    return strategy.default(task, app, consumer, **options)


def trace(task: str, task_id: str, *args: Any, **kwargs: Any) -> tuple[Any, list[Record]]:
    """In the child: run the task; Celery's answer, and what is left to store."""
    with hold_back(task_id) as held:
        answer = fast_trace_task(task, task_id, *args, **kwargs)
        if answer[0]:  # an exception, which may not survive the way
            held.send()
    return answer, held.records


def _take_in(store: ResultStore, on_success: Callable[..., Any], outcome: tuple[Any, list[Record]]) -> None:
    answer, records = outcome
    for record in records:
        store.add(record)
    on_success(answer)


class _Consumer:
    """Celery's consumer with another way into its pool."""

    def __init__(self, consumer: Any, pool: _Pool) -> None:
        self._consumer, self.pool = consumer, pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class _Pool:
    """The pool as Celery's requests use it: tasks are traced by `trace`, what they hand over is taken in."""

    def __init__(self, pool: TaskPool, store: ResultStore) -> None:
        self._pool, self._store = pool, store

    def apply_async(self, target: Any, *, callback: Any, **options: Any) -> Any:
        """Send a task to a child."""
        if target is fast_trace_task:
            target, callback = trace, partial(_take_in, self._store, callback)
        return self._pool.apply_async(target, callback=callback, **options)
