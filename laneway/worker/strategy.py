"""Lets prefork children hand their results to the parent process, which stores them in groups.

In Celery, a strategy makes the function with which a worker handles the messages of a task. This one is Celery's with
one change: a prefork child that has run a task does not store the result itself, which would cost a round trip, but
sends it to the parent with its return value. In the parent, results wait for the acks and are stored together
(`laneway.transport.ack_batcher`). If a child dies before it has sent the result, its task is not acked and runs again.

A child hands over the result of a task that acks late and that no other task follows, if the result is not large
(`laneway.results.store.MAX_HANDED_OVER`). It stores all other results itself.

The messages of a task with the attribute `chunk` are gathered first (`laneway.worker.chunks`), and those of a worker
with heavy tasks wait for their slots (`laneway.worker.slots`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from celery.app.trace import fast_trace_task
from celery.concurrency.prefork import TaskPool
from celery.worker import strategy

from laneway.results.store import Record, ResultStore, hand_over_result
from laneway.worker.chunks import CollectingPool, Gatherer
from laneway.worker.slots import Slots, cost_of, slots_of


def default(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return the function that handles each message of this task."""
    store, pool, handle = getattr(task.backend, "results", None), consumer.pool, consumer.on_task_request
    if (slots := slots_of(consumer)) is not None:
        slots.forget()  # Celery makes its strategies anew at each connection
        handle = _with_slots(slots, task, consumer)
    if task.acks_late and getattr(task, "chunk", None) is not None:
        gatherer = Gatherer(task, consumer, start=handle)
        pool, handle = gatherer.pool, gatherer.add
    if task.acks_late and isinstance(store, ResultStore) and isinstance(consumer.pool, TaskPool):
        pool = _Pool(pool, store)
    if pool is not consumer.pool or slots is not None:
        consumer = _Consumer(consumer, pool, handle)
    return strategy.default(task, app, consumer, **options)


def _with_slots(slots: Slots, task: Any, consumer: Any) -> Callable[[Any], object]:
    """A function that gives a request, or a chunk, of this task to the pool when its slots are free."""
    start, cost = consumer.on_task_request, cost_of(task)

    def handle(request: Any) -> None:
        slots.admit(request, cost=cost, start=start, qos=consumer.qos)

    return handle


def trace(task: str, task_id: str, *args: Any, **kwargs: Any) -> tuple[Any, list[Record]]:
    """Run the task in the child. Return Celery's return value, and the records that the parent stores."""
    with hand_over_result(task_id) as handover:
        answer = fast_trace_task(task, task_id, *args, **kwargs)
        if answer[0]:  # an exception, which may not survive pickling
            handover.store_here()
    return answer, handover.records


def _store_and_report(store: ResultStore, on_success: Callable[..., Any], outcome: tuple[Any, list[Record]]) -> None:
    answer, records = outcome
    for record in records:
        store.buffer(record)
    on_success(answer)


class _Consumer:
    """Celery's consumer with another pool, and another way to it."""

    def __init__(self, consumer: Any, pool: Any, on_task_request: Callable[[Any], object]) -> None:
        self._consumer, self.pool, self.on_task_request = consumer, pool, on_task_request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class _Pool:
    """The pool as Celery's requests use it: it runs tasks with `trace` and stores what the children hand over."""

    def __init__(self, pool: TaskPool | CollectingPool, store: ResultStore) -> None:
        self._pool, self._store = pool, store

    def apply_async(self, target: Any, *, callback: Any, **options: Any) -> Any:
        """Send a task to a child."""
        if target is fast_trace_task:
            target, callback = trace, partial(_store_and_report, self._store, callback)
        return self._pool.apply_async(target, callback=callback, **options)
