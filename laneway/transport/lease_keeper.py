"""Keeps the leases of the messages that this process holds until they are settled.

A lease belongs to a process and a broker, not to a connection. When Celery loses its connection and makes a new one,
its pool continues with the messages that it has. So their leases are still renewed, and their acks are still sent. A
daemon thread renews the leases each time a third of a lease has passed, even while a task blocks the main thread. It
also repeats the releases that failed because the server was away. Acks are sent in groups (`ack_batcher.py`).

A forked child holds nothing: the messages, their acks and their leases stay the parent's. The keeper that a child
inherits therefore does nothing. It takes no lock either, because another thread of the parent may have held it during
the fork, and nobody would ever release it in the child. A connection that the child opens gets a keeper of its own.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError, ResponseError

from laneway.engine import before_ack
from laneway.engine.elapsed import elapsed
from laneway.engine.engine import Delivery, Engine
from laneway.engine.errors import EngineError, ServerLost
from laneway.engine.fork_lock import ForkLock
from laneway.engine.lease import HandOn
from laneway.engine.replies import LeaseStatus
from laneway.transport.ack_batcher import LOST_STATUSES, RETRY_SECONDS, AckBatcher

logger = logging.getLogger(__name__)
MAX_UNCONFIRMED = 1024


@dataclass(slots=True, eq=False)
class _Lease:
    """A message that this process holds. What is known of it is forgotten with it: `id` names objects used again."""

    delivery: Delivery
    ends: float
    """When the lease expires, by the clock of `elapsed`."""
    is_cancelled: bool = False


class LeaseKeeper:
    """The messages that this process holds. `on_cancelled` is called once for each whose task was cancelled."""

    def __init__(self, engine: Engine, *, lease_ms: int, on_cancelled: Callable[[Delivery], None]) -> None:
        self.engine, self._lease_ms, self._on_cancelled = engine, lease_ms, on_cancelled
        self._connections: weakref.WeakSet[object] = weakref.WeakSet()
        self._held: dict[int, _Lease] = {}
        self._retained: dict[int, tuple[Delivery, bool]] = {}
        self.prefetch_count = 0
        """The consumer's last prefetch count while no message of a lost connection was retained."""
        self._ack_batcher = AckBatcher(engine, is_idle=lambda: not self._held)
        self._postponed: deque[Callable[[], object]] = deque()
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None

    @property
    def is_inherited(self) -> bool:
        """True in a forked child of the process that made this keeper. The keeper does nothing there."""
        return os.getpid() != self._pid

    def attach(self, connection: object) -> None:
        """Keep the threads running while this connection is open."""
        self._connections.add(connection)

    def detach(self, connection: object) -> None:
        """Send the acks of a closed connection. End the threads when no connection is open and no message is held."""
        if self.is_inherited:
            return
        self._connections.discard(connection)
        try:
            self._ack_batcher.flush(force=True)
            self._send_postponed()
        finally:
            thread = self._thread
            self._wake.set()
            if self._is_idle:
                if thread and thread is not threading.current_thread():
                    thread.join(5)
                self._ack_batcher.stop()
                self.engine.close()

    def hold(self, delivery: Delivery, *, since: float) -> None:
        """Renew this lease from now on; `since` is the time (`elapsed`) before the fetch was sent."""
        if self.is_inherited:
            return
        self._held[id(delivery)] = _Lease(delivery, since + self._lease_ms / 1000)
        self._ensure_running()

    @property
    def has_ack_backlog(self) -> bool:
        """True when so many acks are unconfirmed that no more tasks should start: a server must be unreachable."""
        return len(self._ack_batcher) >= MAX_UNCONFIRMED

    @property
    def is_holding(self) -> bool:
        """True while this process holds a message."""
        return bool(self._held)

    @property
    def held_count(self) -> int:
        """How many messages this process holds."""
        return len(self._held)

    @property
    def retained_count(self) -> int:
        """How many messages of lost connections this process still has."""
        return len(self._retained)

    def is_valid(self, delivery: Delivery) -> bool:
        """True while the lease has not expired by this process's clock, so nobody else can have the message."""
        lease = self._held.get(id(delivery))
        return lease is not None and elapsed() < lease.ends

    def is_cancelled(self, delivery: Delivery) -> bool:
        """True if a renewal reported that the task of this held message was cancelled."""
        lease = self._held.get(id(delivery))
        return lease is not None and lease.is_cancelled

    def drop(self, delivery: Delivery) -> bool:
        """Stop renewing the lease; False if it was no longer renewed."""
        self._retained.pop(id(delivery), None)
        return self._held.pop(id(delivery), None) is not None

    def retain(self, delivery: Delivery, owner: object, *, started: bool) -> None:
        """Hold a message of a lost connection while `owner`, which may settle it, exists; then release it.

        `owner`: kombu's message. `started`: whether the task has started, so that the delivery counts.
        """
        self._retained[id(delivery)] = (delivery, started)
        # the callback sends nothing, because the garbage collector may call it in any thread at any point
        weakref.finalize(owner, self._on_owner_collected, delivery).atexit = False

    def ack(self, delivery: Delivery) -> None:
        """Ack the message together with others, after its result is stored. On ServerLost the ack is sent later."""
        if self.is_inherited:
            return
        if not self.drop(delivery):
            logger.warning("Message %s was acknowledged after its lease was lost", delivery.id)
        self._ensure_running()
        self._ack_batcher.add(delivery)

    def release(self, deliveries: Sequence[Delivery], *, counted: bool) -> None:
        """Release the messages now, or as soon as the server is back."""
        self._settle(deliveries, lambda: self.engine.release(deliveries, counted=counted))

    def hand_on(self, delivery: Delivery, how: HandOn) -> LeaseStatus | None:
        """Hand the message on to other consumers now, or as soon as the server is back (None)."""
        codes: list[LeaseStatus] = []
        self._settle([delivery], lambda: codes.extend(self.engine.hand_on([delivery], how)))
        return codes[0] if codes else None

    def bury(self, delivery: Delivery, *, reason: str, error: str = "") -> None:
        """Make the message a dead letter now, or as soon as the server is back."""
        self._settle([delivery], lambda: self.engine.bury([delivery], reason=reason, error=error))

    def flush(self) -> None:
        """Send the acks that wait. On ServerLost they are sent again later."""
        if not self.is_inherited:
            self._ack_batcher.flush()

    def close_at_exit(self) -> None:
        """Give back the messages of lost connections, because the process ends."""
        retained = list(self._retained.values())
        try:
            for counted in (False, True):
                self.release([delivery for delivery, started in retained if started is counted], counted=counted)
            self._ack_batcher.flush(force=True)
            self._send_postponed()
        except (EngineError, RedisError) as error:
            logger.warning("Some messages were not given back; their leases will expire: %s", error)
        self.engine.close()

    def renew(self) -> None:
        """Renew all leases. Drop messages whose lease was lost; report each cancelled one once, while it is held."""
        held = list(self._held.values())
        deliveries = [*(lease.delivery for lease in held), *self._ack_batcher.unconfirmed]
        if not deliveries:
            return
        end = elapsed() + self._lease_ms / 1000
        codes = self.engine.renew(deliveries, lease_ms=self._lease_ms)
        for lease, code in zip(held, codes, strict=False):  # those that only wait for their acks need nothing more
            if code in LOST_STATUSES:
                if self.drop(lease.delivery):
                    name = code.name
                    logger.warning("The lease on message %s was lost (%s): it may run again", lease.delivery.id, name)
                continue
            lease.ends = end
            if code is LeaseStatus.CANCELLED and not lease.is_cancelled:
                lease.is_cancelled = True
                if self._held.get(id(lease.delivery)) is lease:
                    self._on_cancelled(lease.delivery)

    @property
    def _is_idle(self) -> bool:
        return not (self._connections or self._held or len(self._ack_batcher) or self._postponed)

    def _settle(self, deliveries: Sequence[Delivery], send: Callable[[], object]) -> None:
        if self.is_inherited:
            return
        for delivery in deliveries:
            self.drop(delivery)
        if not deliveries:
            return
        try:
            before_ack.flush_buffers()
        except (EngineError, RedisError) as error:
            logger.warning("Results cannot be stored now: %s", error)
        try:
            send()
        except ServerLost as error:
            logger.warning("%d messages are given back when the server is back: %s", len(deliveries), error)
            self._postponed.append(send)
            self._ensure_running()

    def _on_owner_collected(self, delivery: Delivery) -> None:
        entry = self._retained.get(id(delivery))
        if entry is None or self.is_inherited:
            return
        self.drop(delivery)
        self._postponed.append(lambda: self.engine.release([delivery], counted=entry[1]))
        self._wake.set()

    def _send_postponed(self) -> None:
        with self._sending:
            while self._postponed:
                try:
                    self._postponed[0]()
                except ResponseError as error:
                    logger.error("The server refuses to take messages back; their leases will expire: %s", error)
                self._postponed.popleft()

    def _ensure_running(self) -> None:
        self._ack_batcher.start()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="laneway-leases", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        period = self._lease_ms / 3000
        due = time.monotonic() + period
        while not self.is_inherited:
            self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()
            try:
                if time.monotonic() >= due:
                    self.renew()
                    due = time.monotonic() + period
                self._send_postponed()
            except (EngineError, RedisError) as error:
                logger.warning("Leases could not be renewed; trying again: %s", error)
                time.sleep(RETRY_SECONDS)
                due = time.monotonic()
            if self._is_idle:
                self._thread = None
                self._ack_batcher.stop()
                if not self._is_idle:  # a caller that saw a running thread added something meanwhile
                    self._ensure_running()
                return


_shared: dict[Hashable, LeaseKeeper] = {}
_sharing = ForkLock()


def shared_lease_keeper(key: Hashable, make: Callable[[], LeaseKeeper]) -> LeaseKeeper:
    """Return this process's one keeper for the broker that `key` names; make it at the first call."""
    with _sharing:
        if key not in _shared:
            _shared[key] = make()
        return _shared[key]


def held_count() -> int | None:
    """How many leases this process holds; None if it has never consumed with the delivery engine."""
    return sum(keeper.held_count for keeper in list(_shared.values())) if _shared else None


def _close_all_at_exit() -> None:
    for lease_keeper in list(_shared.values()):
        lease_keeper.close_at_exit()


atexit.register(_close_all_at_exit)
os.register_at_fork(after_in_child=_shared.clear)
