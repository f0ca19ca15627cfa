"""Keeps the leases of what a connection holds, and commits its acks in groups.

One daemon thread a connection: it renews every third of a lease, so also while a task holds the main
thread, and it sends the acks that nobody else has sent within a few milliseconds.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from laneway.answers import Settled
from laneway.engine import Delivery, Engine
from laneway.errors import EngineError

logger = logging.getLogger(__name__)
GROUP = 64
GATHER_SECONDS = 0.005
RETRY_SECONDS = 0.5


class Leases:
    """What one connection holds. `on_cancelled` hears of held messages whose task was cancelled, once each."""

    def __init__(self, engine: Engine, *, lease_ms: int, on_cancelled: Callable[[Delivery], None]) -> None:
        self._engine, self._lease_ms, self._on_cancelled = engine, lease_ms, on_cancelled
        self._held: dict[int, Delivery] = {}
        self._told: set[int] = set()
        self._acks: deque[Delivery] = deque()
        self._flushing = threading.Lock()
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self, delivery: Delivery) -> None:
        """Renew this lease from now on."""
        self._held[id(delivery)] = delivery
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(os.getpid(),), name="laneway-leases", daemon=True)
            self._thread.start()

    def drop(self, delivery: Delivery) -> bool:
        """Renew it no longer; False when it was lost before."""
        self._told.discard(id(delivery))
        return self._held.pop(id(delivery), None) is not None

    def ack(self, delivery: Delivery) -> None:
        """End it, together with others; at once if somebody waits behind its ordering key."""
        if not self.drop(delivery):
            logger.warning("Message %s was acknowledged after its lease was lost", delivery.id)
        self._acks.append(delivery)
        if len(self._acks) >= GROUP or delivery.has_key:
            self.flush()
        else:
            self._wake.set()

    def flush(self) -> None:
        """Send the acks that have gathered. May raise ServerLost; they are sent again then."""
        with self._flushing:
            group: list[Delivery] = []
            while self._acks:
                group.append(self._acks.popleft())
            if not group:
                return
            try:
                codes = self._engine.ack(group)
            except BaseException:
                self._acks.extendleft(reversed(group))
                raise
        for delivery, code in zip(group, codes, strict=True):
            if code in (Settled.STALE, Settled.UNKNOWN):
                logger.warning("The ack of message %s came too late (%s): it may run again", delivery.id, code.name)

    def take_all(self) -> list[Delivery]:
        """Everything that is held, which is held no longer."""
        held = list(self._held.values())
        self._held.clear()
        return held

    def stop(self) -> None:
        """Send what is left of the acks and end the thread."""
        self._stopped.set()
        self._wake.set()
        self.flush()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(5)

    def renew(self) -> None:
        """Prolong everything held; what was lost is dropped, what was cancelled is told once."""
        held = list(self._held.values())
        if not held:
            return
        for delivery, code in zip(held, self._engine.renew(held, lease_ms=self._lease_ms), strict=True):
            if code in (Settled.STALE, Settled.UNKNOWN) and self.drop(delivery):
                logger.warning("The lease on message %s was lost (%s): it may run again", delivery.id, code.name)
            elif code is Settled.CANCELLED and id(delivery) not in self._told:
                self._told.add(id(delivery))
                self._on_cancelled(delivery)

    def _run(self, pid: int) -> None:
        period = self._lease_ms / 3000
        due = time.monotonic() + period
        while not self._stopped.is_set() and os.getpid() == pid:
            if self._wake.wait(max(0.0, due - time.monotonic())):
                self._wake.clear()
                self._stopped.wait(GATHER_SECONDS)
            try:
                self.flush()
                if time.monotonic() >= due:
                    due = time.monotonic() + period
                    self.renew()
            except EngineError as error:
                logger.warning("Leases could not be renewed, trying again: %s", error)
                due = time.monotonic() + RETRY_SECONDS
                self._stopped.wait(RETRY_SECONDS)
