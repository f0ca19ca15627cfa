"""Keeps the leases of what this process holds, until it is settled.

Leases belong to the process and the broker, not to a connection: when Celery loses its connection and
makes a new one, its pool goes on with what it has, so that stays leased and renewed, and a late ack
goes out. One daemon thread renews every third of a lease, so also while a task holds the main thread,
and gives back what could not be given back before. Acks go out in groups (`commits.py`).
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

from redis.exceptions import RedisError, ResponseError

from laneway.engine.engine import Delivery, Engine
from laneway.engine.errors import EngineError, ServerLost
from laneway.engine.replies import LeaseStatus
from laneway.results.store import flush_results
from laneway.transport.ack_batcher import LOST, RETRY_SECONDS, AckBatcher

logger = logging.getLogger(__name__)
MAX_UNCONFIRMED = 1024


class LeaseKeeper:
    """What is held here. `on_cancelled` hears of held messages whose task was cancelled, once each."""

    def __init__(self, engine: Engine, *, lease_ms: int, on_cancelled: Callable[[Delivery], None]) -> None:
        self.engine, self._lease_ms, self._on_cancelled = engine, lease_ms, on_cancelled
        self.users: weakref.WeakSet[object] = weakref.WeakSet()
        self._held: dict[int, Delivery] = {}
        self._ends: dict[int, float] = {}
        self._kept: dict[int, tuple[Delivery, bool]] = {}
        self.prefetch = 0  # of the worker's consumer, as it was when nothing was kept of a lost connection
        self._told: set[int] = set()
        self._commits = AckBatcher(engine, is_idle=lambda: not self._held)
        self._later: deque[Callable[[], object]] = deque()
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None

    def hold(self, delivery: Delivery, *, since: float) -> None:
        """Renew this lease from now on; `since`: the monotonic time before it was asked for."""
        self._ends[id(delivery)] = since + self._lease_ms / 1000
        self._held[id(delivery)] = delivery
        self._attend()

    @property
    def congested(self) -> bool:
        """True when so much waits to be acked that no more should be begun: a server must be away."""
        return len(self._commits) >= MAX_UNCONFIRMED

    def valid(self, delivery: Delivery) -> bool:
        """True while nobody else can have the message: by this process's own clock the lease is not over."""
        return time.monotonic() < self._ends.get(id(delivery), 0.0)

    def drop(self, delivery: Delivery) -> bool:
        """Renew it no longer; False when it was lost before."""
        self._told.discard(id(delivery))
        self._kept.pop(id(delivery), None)
        self._ends.pop(id(delivery), None)
        return self._held.pop(id(delivery), None) is not None

    def keep(self, delivery: Delivery, owner: object, *, started: bool) -> None:
        """The connection broke: hold it as long as `owner` lives, who may settle it, and release it after that."""
        self._kept[id(delivery)] = (delivery, started)
        # only notes it: collection may happen in any thread, at any point
        weakref.finalize(owner, self._abandoned, delivery).atexit = False

    @property
    def kept(self) -> int:
        """How many messages of lost connections somebody here still has."""
        return len(self._kept)

    @property
    def holds(self) -> bool:
        """True while anything is held here."""
        return bool(self._held)

    def ack(self, delivery: Delivery) -> None:
        """End it, together with others, after its result is stored; may raise ServerLost, and is sent later then."""
        if not self.drop(delivery):
            logger.warning("Message %s was acknowledged after its lease was lost", delivery.id)
        self._attend()
        self._commits.add(delivery)

    def release(self, deliveries: Sequence[Delivery], *, counted: bool) -> None:
        """Give them back, now or as soon as the server is there again."""
        self._settle(deliveries, lambda: self.engine.release(deliveries, counted=counted))

    def bury(self, delivery: Delivery, *, reason: str, error: str = "") -> None:
        """Make a dead letter of it, now or as soon as the server is there again."""
        self._settle([delivery], lambda: self.engine.bury([delivery], reason=reason, error=error))

    def flush(self) -> None:
        """Send the acks that have gathered. May raise ServerLost; they are sent again then."""
        self._commits.flush()

    def leave(self, user: object) -> None:
        """A connection is closed: send its acks; without connections and anything held the thread ends."""
        self.users.discard(user)
        try:
            self._commits.flush(insist=True)
            self._send_later()
        finally:
            thread = self._thread
            self._wake.set()
            if self._idle:
                if thread and thread is not threading.current_thread():
                    thread.join(5)
                self._commits.stop()
                self.engine.close()

    def finish(self) -> None:
        """The process ends: give back what is still kept."""
        kept = list(self._kept.values())
        try:
            for counted in (False, True):
                self.release([delivery for delivery, started in kept if started is counted], counted=counted)
            self._commits.flush(insist=True)
            self._send_later()
        except (EngineError, RedisError) as error:
            logger.warning("Some messages were not given back, their leases will run out: %s", error)
        self.engine.close()

    def renew(self) -> None:
        """Prolong everything held; what was lost is dropped, what was cancelled is told once."""
        held = [*self._held.values(), *self._commits.unconfirmed]
        if not held:
            return
        end = time.monotonic() + self._lease_ms / 1000
        for delivery, code in zip(held, self.engine.renew(held, lease_ms=self._lease_ms), strict=True):
            if code in LOST:
                if self.drop(delivery):
                    logger.warning("The lease on message %s was lost (%s): it may run again", delivery.id, code.name)
                continue
            if id(delivery) in self._held:
                self._ends[id(delivery)] = end
            if code is LeaseStatus.CANCELLED and id(delivery) not in self._told:
                self._told.add(id(delivery))
                self._on_cancelled(delivery)

    @property
    def _idle(self) -> bool:
        return not (self.users or self._held or len(self._commits) or self._later)

    def _settle(self, deliveries: Sequence[Delivery], send: Callable[[], object]) -> None:
        for delivery in deliveries:
            self.drop(delivery)
        if not deliveries:
            return
        try:
            flush_results()
        except (EngineError, RedisError) as error:
            logger.warning("Results cannot be stored now: %s", error)
        try:
            send()
        except ServerLost as error:
            logger.warning("%d messages are given back when the server is there again: %s", len(deliveries), error)
            self._later.append(send)
            self._attend()

    def _abandoned(self, delivery: Delivery) -> None:
        entry = self._kept.get(id(delivery))
        if entry is None or os.getpid() != self._pid:
            return
        self.drop(delivery)
        self._later.append(lambda: self.engine.release([delivery], counted=entry[1]))
        self._wake.set()

    def _send_later(self) -> None:
        with self._sending:
            while self._later:
                try:
                    self._later[0]()
                except ResponseError as error:
                    logger.error("The server refuses to take messages back, their leases will run out: %s", error)
                self._later.popleft()

    def _attend(self) -> None:
        self._commits.start()
        if self._thread is None and os.getpid() == self._pid:
            self._thread = threading.Thread(target=self._run, name="laneway-leases", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        period = self._lease_ms / 3000
        due = time.monotonic() + period
        while os.getpid() == self._pid:
            self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()
            try:
                if time.monotonic() >= due:
                    self.renew()
                    due = time.monotonic() + period
                self._send_later()
            except (EngineError, RedisError) as error:
                logger.warning("Leases could not be renewed, trying again: %s", error)
                time.sleep(RETRY_SECONDS)
                due = time.monotonic()
            if self._idle:
                self._thread = None
                self._commits.stop()
                if not self._idle:  # something came in between, and saw a thread
                    self._attend()
                return


_shared: dict[Hashable, LeaseKeeper] = {}
_sharing = threading.Lock()


def shared_leases(key: Hashable, make: Callable[[], LeaseKeeper]) -> LeaseKeeper:
    """This process's leases on one broker."""
    with _sharing:
        if key not in _shared:
            _shared[key] = make()
        return _shared[key]


def _finish_all() -> None:
    for leases in list(_shared.values()):
        leases.finish()


atexit.register(_finish_all)
os.register_at_fork(after_in_child=_shared.clear)
