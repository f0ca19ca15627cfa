"""What `laneway.install` adds to the consumer of a Celery worker, as a bootstep.

1. Every task of the app uses the engine's request and strategy, even if its base class is not `app.Task`.
2. `inspect scheduled` also lists the tasks that wait in the broker.
3. The processes of a prefork pool are watched (`pool_watchdog.py`).
4. A worker that takes no work although some waits is restarted (`consumer_watchdog.py`).
5. At its end the interpreter collects no garbage: that takes 0.3 s, and the system frees the memory anyway.
"""

from __future__ import annotations

import atexit
import gc
from typing import Any

from celery import bootsteps

from laneway.transport.celery_worker import prepared_consumers
from laneway.worker.consumer_watchdog import ConsumerWatchdog, watch_consumer
from laneway.worker.inspect import extend_inspect, show_slots
from laneway.worker.masking import mask_settings, mask_stats
from laneway.worker.pool_watchdog import watch_pool
from laneway.worker.task_classes import use_engine_classes

TURN_SECONDS = 1.0
"""Seconds between two notes of the main loop that it turns."""


class WorkerStep(bootsteps.StartStopStep):
    """Prepares one worker. Celery makes it before the consumer reads the tasks' classes."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._watch: Any = None
        self._turns: Any = None
        self._watchdog: ConsumerWatchdog | None = None
        extend_inspect()
        mask_stats()
        show_slots()
        mask_settings()
        _use_engine_classes(consumer)
        prepared_consumers.add(consumer)
        atexit.unregister(gc.freeze)  # a worker in one process with others may be prepared more than once
        atexit.register(gc.freeze)

    def start(self, consumer: Any) -> None:
        """Called at each connection: prepare tasks that were registered since the last one, and watch the pool."""
        _use_engine_classes(consumer)
        if self._watch:
            self._watch.cancel()
        self._watch = watch_pool(consumer)
        watchdog = self._watchdog = self._watchdog or watch_consumer(consumer)
        watchdog.is_connected = True
        if consumer.hub is not None:
            self._turns = consumer.hub.call_repeatedly(TURN_SECONDS, watchdog.note_turn)

    def stop(self, consumer: Any) -> None:
        """Called when the connection is lost, and at the end."""
        del consumer
        if self._watchdog is not None:
            self._watchdog.is_connected = False
        if self._turns is not None:
            self._turns.cancel()

    def terminate(self, consumer: Any) -> None:
        """Called at the end."""
        self.stop(consumer)
        if self._watchdog is not None:
            self._watchdog.stop()


def _use_engine_classes(consumer: Any) -> None:
    for task in consumer.app.tasks.values():
        use_engine_classes(task)
