"""Group commit: the acks of a process to one broker, sent together, each after its task's result.

An ack goes out with others when 64 have gathered, after 5 ms, or as soon as nothing more is held, whichever
comes first; at once if somebody waits behind its ordering key. What is sent is taken out of the queue of
acks first, then the results that wait are stored, then the acks go: a result is put among the waiting before
its task is acked, so it is always stored first. If the results cannot be stored no ack is sent, the leases of
the unsent acks are renewed (`unconfirmed`), and all of it is tried again.

A daemon thread does this for those who have nothing else to do in time; it is not the one that renews
leases, so that a result server that hangs costs no lease.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from redis.exceptions import RedisError

from laneway.engine.engine import Delivery, Engine
from laneway.engine.errors import EngineError
from laneway.engine.replies import LeaseStatus
from laneway.results.store import flush_results, gather, stop_gathering

logger = logging.getLogger(__name__)
GROUP = 64
GATHER_SECONDS = 0.005
RETRY_SECONDS = 0.5
LOST = (LeaseStatus.STALE, LeaseStatus.UNKNOWN)


class AckBatcher:
    """The acks that wait, and the results that go before them. Thread-safe; a fork's child makes its own."""

    def __init__(self, engine: Engine, *, is_idle: Callable[[], bool]) -> None:
        """`is_idle`: whether nothing is held that could still bring a result or an ack."""
        self._engine, self._is_idle = engine, is_idle
        self._acks: deque[Delivery] = deque()
        self._unconfirmed: dict[int, Delivery] = {}
        self._flushing, self._starting = threading.Lock(), threading.Lock()
        self._wake = threading.Event()
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._not_before = 0.0

    @property
    def unconfirmed(self) -> list[Delivery]:
        """What was acked here and not yet there."""
        return list(self._unconfirmed.values())

    def __len__(self) -> int:
        return len(self._unconfirmed)

    def start(self) -> None:
        """From now on results of this process wait for the acks."""
        if (self._thread is not None and not self._ending) or os.getpid() != self._pid:
            return
        with self._starting:
            self._ending = False
            if self._thread is None:
                gather(self._wake.set)
                self._thread = threading.Thread(target=self._run, name="laneway-commits", daemon=True)
                self._thread.start()

    def add(self, delivery: Delivery) -> None:
        """One more ack. May send, and raise ServerLost then; it is sent again later."""
        self._unconfirmed[id(delivery)] = delivery
        self._acks.append(delivery)
        self.start()
        if len(self._acks) >= GROUP or delivery.has_key or self._is_idle():
            self.flush()
        else:
            self._wake.set()

    def flush(self, *, insist: bool = False) -> bool:
        """Send what waits. False: the results cannot be stored now. Raises ServerLost when the broker is away.

        While the results' server is away it is asked no more than twice a second, unless one insists.
        """
        with self._flushing:
            group: list[Delivery] = []
            while self._acks:
                group.append(self._acks.popleft())
            try:
                stored = self._store_results(insist=insist)
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
            if code in LOST:
                logger.warning("The ack of message %s came too late (%s): it may run again", delivery.id, code.name)
        return True

    def stop(self) -> None:
        """The thread ends when it has sent what waits; results are stored at once again."""
        with self._starting:
            thread, self._ending = self._thread, True
        self._wake.set()
        if thread and thread is not threading.current_thread():
            thread.join(5)

    def _store_results(self, *, insist: bool) -> bool:
        if not insist and time.monotonic() < self._not_before:
            return False
        try:
            flush_results()
        except (EngineError, RedisError) as error:
            self._not_before = time.monotonic() + RETRY_SECONDS
            logger.warning("Results cannot be stored, their tasks are not acknowledged: %s", error)
            self._wake.set()
            return False
        return True

    def _run(self) -> None:
        while os.getpid() == self._pid:
            self._wake.wait()
            self._wake.clear()
            if not self._ending and not self._is_idle():
                time.sleep(GATHER_SECONDS)
            try:
                if not self.flush():  # by this thread's attempt or by another's: it is for this one to try again
                    time.sleep(RETRY_SECONDS)
                    self._wake.set()
            except (EngineError, RedisError) as error:
                logger.warning("Acks could not be sent, trying again: %s", error)
                time.sleep(RETRY_SECONDS)
                self._wake.set()
            if self._ended():
                return

    def _ended(self) -> bool:
        with self._starting:
            if not self._ending or self._acks:
                return False
            self._thread = None
        try:
            stop_gathering(self._wake.set)
        except (EngineError, RedisError) as error:
            logger.warning("Some results were not stored: %s", error)
        return True
