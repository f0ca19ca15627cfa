"""A consumer with events in batches: `worker_consumer = "laneway.worker.consumer:Consumer"`.

Celery publishes task events in each turn of its event loop, which is once or twice per task. That is a third of what a
short task costs the worker. Here events wait up to 50 ms for others. Flower and `celery events` see them that much
later, and a worker that is killed loses the events of the last 50 ms.

It also lets the prefork pool report all started tasks before Celery decides which tasks to cancel, hands messages on
whose task it does not know, and says in the dead letter of a rejected message why it was rejected.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from celery import bootsteps
from celery.worker import consumer

from laneway.worker.hand_on import hand_on, unknown_task
from laneway.worker.prefork import TaskPool

BATCH_SECONDS = 0.05


class Consumer(consumer.Consumer):
    """Celery's consumer, with events in batches."""

    blueprint: Any
    hub: Any
    hostname: str
    _batch_ends_at = 0.0

    def on_send_event_buffered(self) -> None:
        """Schedule the publishing of an event, or publish at once when the worker stops. Called in any thread."""
        if self.blueprint.state != bootsteps.RUN:
            self._flush_events()
        elif (now := monotonic()) >= self._batch_ends_at:
            self._batch_ends_at = now + BATCH_SECONDS
            self.hub.call_soon(self._schedule_flush)

    def stop(self) -> None:
        """Publish the last events, then stop."""
        self._flush_events()
        super().stop()

    def cancel_active_requests(self) -> None:
        """Cancel all running tasks for a cold shutdown.

        Celery cancels the tasks whose start it has read. Without the wait, a task that started a moment ago would run
        to its end, and the worker would wait for it.
        """
        self._wait_for_starts()
        super().cancel_active_requests()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Reconnect. Celery may cancel running tasks first, so it must know all of them."""
        self._wait_for_starts()
        super().on_connection_error_after_connected(exc)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Hand a message on whose task is not registered here: a newer worker may know it.

        If no worker has taken it in time, it becomes a dead letter that says so.
        """
        name = str(exc.args[0] if exc.args else message.headers.get("task"))  # a KeyError
        if not hand_on(message, unknown_task(name), app=self.app, worker=self.hostname):
            super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Reject a message whose arguments are no call of a task. Its dead letter has the error."""
        message.refusal = "invalid", f"It is no call of a task: {exc}"
        super().on_invalid_task(body, message, exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Reject a message that names no task."""
        message.refusal = "invalid", "It names no task: something other than a sender of Celery tasks has put it here."
        super().on_unknown_message(body, message)

    def _wait_for_starts(self) -> None:
        if isinstance(self.pool, TaskPool):
            self.pool.wait_for_starts()

    def _schedule_flush(self) -> None:
        self.hub.call_later(BATCH_SECONDS, self._flush_events)
