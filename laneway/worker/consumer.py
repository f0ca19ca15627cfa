"""A worker's consumer that gathers its events: `worker_consumer = "laneway.worker.consumer:Consumer"`.

Celery publishes what happens to tasks in each turn of its event loop, which is once or twice a task: a third of what a
short task costs the worker. Here events wait a moment for others. Who looks at them (Flower, `celery events`) sees them
as much later; a worker that is killed has not told the last of them.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from celery import bootsteps
from celery.worker import consumer

GATHER_SECONDS = 0.05


class Consumer(consumer.Consumer):
    """Celery's consumer."""

    blueprint: Any
    hub: Any
    _gathering_until = 0.0

    def on_send_event_buffered(self) -> None:
        """An event waits to be published. Called in any thread; once the worker stops, nobody comes back for it."""
        if self.blueprint.state != bootsteps.RUN:
            self._flush_events()
        elif (now := monotonic()) >= self._gathering_until:
            self._gathering_until = now + GATHER_SECONDS
            self.hub.call_soon(self._flush_later)

    def stop(self) -> None:
        """Stop, when what happened until now is told."""
        self._flush_events()
        super().stop()

    def _flush_later(self) -> None:
        self.hub.call_later(GATHER_SECONDS, self._flush_events)
