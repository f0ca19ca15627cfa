"""Rates, numbers in flight and pauses of queues, as operators set them.

The database says what is wanted; the engine keeps it, for all workers together. Whatever the engine has otherwise (it
lost its data, or was away when the limit was set) is put right by `Broker.prepare`, which workers call every 5 s.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from laneway.engine import QueueStats
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import QueueLimit
from laneway.platform.db.queries import queue_limits as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, UnknownQueue
from laneway.platform.flow.rate_limits import RateLimit
from laneway.platform.logging import logger
from laneway.platform.queues import queues as declared
from laneway.platform.schemas.queue import QueueLimits as Wanted
from laneway.platform.schemas.queue import QueueLimitsResponse

log = logger(__name__)


class NoSuchQueue(UnknownQueue):
    """An address names a queue that there is not."""

    status = 404


def kept_throttles(database: Database) -> dict[str, RateLimit]:
    """Queue → what is wanted of it, where somebody ever said so."""
    with database.reading() as session:
        return {row.queue: _throttle(row) for row in repository.all_limits(session)}


class QueueLimits:
    """Keeps and shows the limits of queues."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker

    def listing(self) -> list[QueueLimitsResponse]:
        """Every queue."""
        with self._database.reading() as session:
            rows = {row.queue: row for row in repository.all_limits(session)}
        stats = self._stats()
        return [_answer(queue, rows.get(queue), stats.get(queue)) for queue in declared]

    def of(self, queue: str) -> QueueLimitsResponse:
        """One queue. Raises NoSuchQueue."""
        _checked(queue)
        return next(one for one in self.listing() if one.queue == queue)

    def put(self, queue: str, wanted: Wanted) -> QueueLimitsResponse:
        """Set all limits of a queue. Raises NoSuchQueue, Unsupported; a broker that is away gets them later."""
        self._broker.must_throttle()
        throttle = RateLimit(
            rate=wanted.rate, per_seconds=wanted.per_seconds, max_in_flight=wanted.max_in_flight, paused=wanted.paused
        )
        with self._database.transaction() as session:
            repository.save(session, queue=_checked(queue), updated_at=clock.now(), **asdict(throttle))
        log.info("queue limits set", queue=queue, **asdict(throttle))
        try:
            self._broker.throttle(queue, throttle)
        except BrokerUnavailable as error:
            log.warning("queue limits not with the broker yet", queue=queue, error=str(error))
        return self.of(queue)

    def pause(self, queue: str) -> QueueLimitsResponse:
        """Start nothing of this queue any more; what runs goes on, and its limits stay. Raises as `put`."""
        return self._put_paused(queue, paused=True)

    def resume(self, queue: str) -> QueueLimitsResponse:
        """Go on. Raises as `put`."""
        return self._put_paused(queue, paused=False)

    def _put_paused(self, queue: str, *, paused: bool) -> QueueLimitsResponse:
        now = self.of(queue)
        return self.put(
            queue, Wanted(rate=now.rate, per_seconds=now.per_seconds, max_in_flight=now.max_in_flight, paused=paused)
        )

    def _stats(self) -> dict[str, QueueStats]:
        try:
            return {stats.queue: stats for stats in self._broker.stats(list(declared)) or ()}
        except BrokerUnavailable:
            return {}


def _checked(queue: str) -> str:
    if queue not in declared:
        raise NoSuchQueue(queue, list(declared))
    return queue


def _throttle(row: QueueLimit) -> RateLimit:
    return RateLimit(rate=row.rate, per_seconds=row.per_seconds, max_in_flight=row.max_in_flight, paused=row.paused)


def _answer(queue: str, row: QueueLimit | None, stats: QueueStats | None) -> QueueLimitsResponse:
    throttle = _throttle(row) if row else RateLimit()
    updated: datetime | None = row.updated_at if row else None
    in_force = throttle.holds(stats) if stats is not None else None
    return QueueLimitsResponse(queue=queue, updated_at=updated, in_force=in_force, **asdict(throttle))
