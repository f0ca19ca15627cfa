"""A worker in the thread of a test: it runs what is due, one task after the other, and then stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

from celery import Celery
from celery.concurrency.base import BasePool, apply_target
from kombu.entity import Queue

from laneway.worker.request import Request

NAME = "worker@test"


class _ThisThread(BasePool):
    """Runs each task at once. Celery's pool `solo` would announce a new process, which drops its platform."""

    def on_apply(self, *args: Any, **options: Any) -> None:
        """Run a task."""
        apply_target(*args, **options)


class InlineWorker:
    """Takes messages of all queues and runs them with Celery's own request and tracer. It has no time limits."""

    def __init__(self, app: Celery, queues: tuple[str, ...]) -> None:
        self._app, self._queues = app, queues
        self._pool = _ThisThread(app=app)
        self._connection: Any = app.connection_for_write()

    def run_due(self) -> Iterator[str]:
        """Run what is due until no queue has more; yields the id of each task that was run."""
        while ran := [task_id for queue in self._queues if (task_id := self._run_next(queue))]:
            yield from ran

    def close(self) -> None:
        """Close its connection."""
        self._connection.release()

    def _run_next(self, queue: str) -> str | None:
        source: Any = Queue(queue)
        message: Any = source(self._connection.default_channel).get()
        if message is None:
            return None
        name, task_id = message.headers["task"], message.headers["id"]
        if name not in self._app.tasks:
            message.reject()
            raise AssertionError(f"The queue {queue!r} has a message of {name!r}, and no such task is known.")
        request: Any = Request(
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            hostname=NAME,
            app=self._app,
            task=self._app.tasks[name],
        )
        copy_context().run(request.execute_using_pool, self._pool)  # what a task binds to its log lines ends with it
        self._connection.transport.lease_keeper.flush()
        return task_id
