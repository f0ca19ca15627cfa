"""Watches whether a worker takes work, and restarts one that takes none while work waits and it has a free slot.

A connected worker with room asks the broker for messages at least once in each `poll_interval`, and the broker decides
what it gets: nothing of a paused or limited queue, nothing whose key is held. So a worker is stuck when it has a free
slot, tasks wait in its queues, and it has neither asked nor started a task for a minute. A worker all of whose slots
run tasks does not ask, and is never stuck, however long its tasks are.

A stuck worker stops warmly, and ends with `EX_SOFTWARE`, so that its supervisor (`laneway up`, systemd, compose) starts
it again. Tasks that still run after `WARM_SECONDS` return to their queues. If the worker does not end even then, it
exits; its leases expire, and its tasks run elsewhere.

The watchdog has a thread of its own, because the main loop may be what hangs. It counts its own checks, not seconds, so
the time in which a machine was suspended does not count.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread, Timer
from time import monotonic
from typing import Any

from celery.signals import worker_shutting_down
from celery.worker import state

from laneway.engine.errors import EngineError
from laneway.transport.celery_worker import is_stopping
from laneway.transport.transport import Transport
from laneway.worker.pool_watchdog import EXIT_SECONDS
from laneway.worker.stuck import TOOK_NONE, on_stuck

logger = logging.getLogger(__name__)
CHECK_SECONDS = 5.0
STUCK_SECONDS = 60.0
WARM_SECONDS = 60.0
"""How long the running tasks of a stuck worker may take to end."""


class ConsumerWatchdog:
    """Checks one worker every few seconds."""

    def __init__(self, consumer: Any, *, restart: Callable[[str], object] | None = None) -> None:
        self._consumer, self._restart = consumer, restart or restart_worker
        self.is_connected = False
        self._seen: tuple[float, int] = (-1.0, -1)
        self._checks = 0
        """For how many checks in a row the worker has taken nothing while work waits."""
        self._turned_at = monotonic()
        self._stopped = Event()

    def start(self) -> None:
        """Check from now on, in a thread."""
        Thread(target=self._run, name="laneway-consumer-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Check no more."""
        self._stopped.set()

    def note_turn(self) -> None:
        """Note that the main loop turns. Called by the loop itself, every second."""
        self._turned_at = monotonic()

    def check(self) -> None:
        """Restart the worker if it has taken nothing for long enough while work waits."""
        waiting = self._untaken()
        self._checks = self._checks + 1 if waiting else 0
        if self._checks * CHECK_SECONDS >= max(STUCK_SECONDS, 2 * self._transport.poll_interval):
            self.stop()
            seconds = self._checks * CHECK_SECONDS
            self._restart(f"{TOOK_NONE} {waiting} waiting tasks for {seconds:.0f} s: {self._cause()}")

    @property
    def _transport(self) -> Transport:
        return self._consumer.connection.transport

    @property
    def _slots(self) -> int:
        return int(getattr(self._consumer.pool, "num_processes", 0) or 0)

    @property
    def _busy(self) -> int:
        """How many tasks the worker holds: Celery forgets those of a lost connection, whose messages are retained."""
        retained = self._transport.lease_keeper.retained_count
        return max(len(state.active_requests), len(state.reserved_requests) + retained)

    def _untaken(self) -> int:
        """How many tasks wait although the worker could take one; 0: it takes work, is busy, or is not connected."""
        task_consumer = self._consumer.task_consumer
        if not self.is_connected or is_stopping() or task_consumer is None or not task_consumer.queues:
            return 0
        if not isinstance(self._consumer.connection.transport, Transport):
            return 0
        channel = task_consumer.channel
        seen = (channel.next_fetch_at, sum(state.total_count.values()))
        has_moved, self._seen = seen != self._seen, seen
        if has_moved or self._busy >= self._slots:
            return 0
        queues = [queue.name for queue in task_consumer.queues]
        ready = sum(stats.ready for stats in self._transport.engine.stats(queues) if not stats.paused)
        return ready + len(channel.pending)

    def _cause(self) -> str:
        if self._consumer.hub is not None and monotonic() - self._turned_at > STUCK_SECONDS / 2:
            return "its main loop does not turn"
        if self._consumer.task_consumer.channel.qos.room <= 0:
            return f"it has no room, and {self._busy} of {self._slots} slots are busy"
        return "it does not ask the broker"

    def _run(self) -> None:
        while not self._stopped.wait(CHECK_SECONDS):
            try:
                self.check()
            except (EngineError, OSError, AttributeError):  # the broker is away, or the connection is being replaced
                self._checks = 0
            except Exception:
                self._checks = 0
                logger.exception("The check of whether this worker takes work has failed")


def watch_consumer(consumer: Any) -> ConsumerWatchdog:
    """Watch the consumer of this worker. It may not be connected yet: Celery starts its steps in no certain order."""
    watchdog = ConsumerWatchdog(consumer)
    watchdog.start()
    return watchdog


def restart_worker(reason: str) -> None:
    """Stop this worker: warmly, then coldly, then at once. Its supervisor starts it again."""
    logger.critical(
        "This worker %s. It stops, for its supervisor to start it again (exit code %d)", reason, os.EX_SOFTWARE
    )
    for tell in on_stuck:
        with suppress(Exception):
            tell(reason)
    worker_shutting_down.send(sender=None, sig="STUCK", how="Warm", exitcode=os.EX_SOFTWARE)
    state.should_stop = os.EX_SOFTWARE
    _after(WARM_SECONDS, _stop_coldly)


def _stop_coldly() -> None:
    logger.critical("This worker has not ended in %g s: its running tasks return to their queues", WARM_SECONDS)
    os.kill(os.getpid(), signal.SIGQUIT)
    _after(EXIT_SECONDS, _exit)


def _exit() -> None:
    os._exit(os.EX_SOFTWARE)


def _after(seconds: float, call: Callable[[], None]) -> None:
    timer = Timer(seconds, call)
    timer.daemon = True
    timer.start()
