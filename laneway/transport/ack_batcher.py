"""Group commit: sends the acks of a process to one broker together, each after its task's result is stored.

A task that has ended and whose ack was not sent runs again when its worker is killed. So an ack is sent at once if the
last group was sent 5 ms ago or earlier. Otherwise it waits until those 5 ms are over, and the acks that come meanwhile
are sent with it: a worker of short tasks sends at most one group in 5 ms. No ack waits when 64 are there, or when no
more messages are held. An ack that frees an ordering key is sent at once.

A flush takes the waiting acks, stores the waiting results, and then sends the acks. A result starts to wait before its
task is acked, so it is always stored first. If the results cannot be stored, no ack is sent, the leases of the unsent
acks stay renewed (`unconfirmed`), and the whole group is retried.

A daemon thread flushes where nothing else does so in time, so that a slow server does not block the worker's loop. It
is not the thread that renews leases, so a result server that hangs does not make leases expire.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from redis.exceptions import RedisError

from laneway.engine import before_ack
from laneway.engine.engine import Delivery, Engine
from laneway.engine.errors import EngineError
from laneway.engine.replies import LeaseStatus

logger = logging.getLogger(__name__)
GROUP_SIZE = 64
BATCH_SECONDS = 0.005
RETRY_SECONDS = 0.5
LOST_STATUSES = (LeaseStatus.STALE, LeaseStatus.UNKNOWN)


class AckBatcher:
    """The acks that wait, and the results that are stored before them. Thread-safe; a forked child makes its own."""

    def __init__(self, engine: Engine, *, is_idle: Callable[[], bool]) -> None:
        """`is_idle` returns True when no message is held whose result or ack could still join the group."""
        self._engine, self._is_idle = engine, is_idle
        self._acks: deque[Delivery] = deque()
        self._unconfirmed: dict[int, Delivery] = {}
        self._flushing, self._starting = threading.Lock(), threading.Lock()
        self._wake = threading.Event()
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._retry_at = self._sent_at = 0.0

    @property
    def unconfirmed(self) -> list[Delivery]:
        """The messages that this process has acked and whose acks the server has not confirmed."""
        return list(self._unconfirmed.values())

    def __len__(self) -> int:
        return len(self._unconfirmed)

    def start(self) -> None:
        """Start the thread; from now on results of this process wait for the acks."""
        if (self._thread is not None and not self._stopping) or os.getpid() != self._pid:
            return
        with self._starting:
            self._stopping = False
            if self._thread is None:
                before_ack.start_buffering(self._wake.set)
                self._thread = threading.Thread(target=self._run, name="laneway-acks", daemon=True)
                self._thread.start()

    def add(self, delivery: Delivery) -> None:
        """Add one ack. It may flush, and then raise ServerLost; the ack is sent again later."""
        self._unconfirmed[id(delivery)] = delivery
        self._acks.append(delivery)
        self.start()
        if len(self._acks) >= GROUP_SIZE or delivery.has_key or self._is_idle():
            self.flush()
        else:
            self._wake.set()

    def flush(self, *, force: bool = False) -> bool:
        """Send the waiting acks. False: results cannot be stored now, so nothing was sent. Raises ServerLost.

        While the result server is unreachable, it is tried at most twice a second, unless `force` is set.
        """
        with self._flushing:
            group: list[Delivery] = []
            while self._acks:
                group.append(self._acks.popleft())
            if group:
                self._sent_at = time.monotonic()
            try:
                stored = self._store_results(force=force)
                codes = self._engine.ack(group) if stored and group else None
            except BaseException:
                self._acks.extendleft(reversed(group))
                self._wake.set()
                raise
            if codes is None:
                self._acks.extendleft(reversed(group))
                return stored
        for delivery, code in zip(group, codes, strict=True):
            self._unconfirmed.pop(id(delivery), None)
            if code in LOST_STATUSES:
                logger.warning("The ack of message %s came too late (%s): it may run again", delivery.id, code.name)
        return True

    def stop(self) -> None:
        """End the thread after it has sent the waiting acks. Results are stored at once again."""
        with self._starting:
            thread, self._stopping = self._thread, True
        self._wake.set()
        if thread and thread is not threading.current_thread():
            thread.join(5)

    def _store_results(self, *, force: bool) -> bool:
        if not force and time.monotonic() < self._retry_at:
            return False
        try:
            before_ack.flush_buffers()
        except (EngineError, RedisError) as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            logger.warning("Results cannot be stored, so their tasks are not acknowledged yet: %s", error)
            self._wake.set()
            return False
        return True

    def _run(self) -> None:
        while os.getpid() == self._pid:
            self._wake.wait()
            self._wake.clear()
            self._wait_until_due()
            try:
                if not self.flush():  # whether this thread or another failed, this one retries
                    time.sleep(RETRY_SECONDS)
                    self._wake.set()
            except (EngineError, RedisError) as error:
                logger.warning("Acks could not be sent; trying again: %s", error)
                time.sleep(RETRY_SECONDS)
                self._wake.set()
            if self._finish_if_stopped():
                return

    def _wait_until_due(self) -> None:
        """Wait for the acks of results that wait alone, and until the last group is `BATCH_SECONDS` old."""
        results_due = time.monotonic() + BATCH_SECONDS
        while not (self._acks or self._stopping or self._is_idle()):
            if not self._wake.wait(max(0.0, results_due - time.monotonic())):
                return
            self._wake.clear()
        if not (self._stopping or self._is_idle()):
            time.sleep(max(0.0, self._sent_at + BATCH_SECONDS - time.monotonic()))

    def _finish_if_stopped(self) -> bool:
        with self._starting:
            if not self._stopping or self._acks:
                return False
            self._thread = None
        try:
            before_ack.stop_buffering(self._wake.set)
        except (EngineError, RedisError) as error:
            logger.warning("Some results were not stored: %s", error)
        return True
