"""Rates, numbers in flight and pauses of queues, as operators set them.

The database stores what operators set. The engine enforces it for all workers together. If the engine lost its data, or
could not be reached when the limits were set, `Broker.prepare` sets them again; workers call it every 5 s.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy.orm import Session

from laneway.engine import QueueStats
from laneway.platform import clock
from laneway.platform.audit_log.recording import record
from laneway.platform.broker import Broker
from laneway.platform.db.models import QueueLimit
from laneway.platform.db.queries import queue_limits as queries
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, UnknownQueue
from laneway.platform.flow.rate_limits import RateLimit
from laneway.platform.logging import logger
from laneway.platform.queues import queues as declared
from laneway.schemas.queue import QueueLimits as LimitsRequest
from laneway.schemas.queue import QueueLimitsResponse

log = logger(__name__)


class NoSuchQueue(UnknownQueue):
    """The URL names a queue that does not exist."""

    status = 404


def stored_rate_limits(database: Database) -> dict[str, RateLimit]:
    """Return queue → limits, for the queues whose limits an operator has set."""
    with database.reading() as session:
        return {row.queue: _rate_limit(row) for row in queries.all_limits(session)}


class QueueLimits:
    """Stores and reads the limits of queues."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker

    def listing(self) -> list[QueueLimitsResponse]:
        """The limits of every queue."""
        with self._database.reading() as session:
            rows = {row.queue: row for row in queries.all_limits(session)}
        stats = self._stats()
        return [_response(queue, rows.get(queue), stats.get(queue)) for queue in declared]

    def of(self, queue: str) -> QueueLimitsResponse:
        """The limits of one queue. Raises NoSuchQueue."""
        check_declared(queue)
        return next(limits for limits in self.listing() if limits.queue == queue)

    def put(self, queue: str, request: LimitsRequest) -> QueueLimitsResponse:
        """Set all limits of a queue. An unreachable broker gets them later. Raises NoSuchQueue, Unsupported."""
        self._broker.require_engine("limits of queues")
        check_declared(queue)
        limit = RateLimit(
            rate=request.rate,
            per_seconds=request.per_seconds,
            max_in_flight=request.max_in_flight,
            paused=request.paused,
            max_wait_seconds=request.max_wait_seconds,
        )
        with self._database.transaction() as session:
            before = queries.find(session, queue)
            queries.save(session, queue=queue, updated_at=clock.now(), **asdict(limit))
            _record(session, queue, before=_rate_limit(before) if before else RateLimit(), after=limit)
        log.info("queue limits set", queue=queue, **asdict(limit))
        try:
            self._broker.set_rate_limit(queue, limit)
        except BrokerUnavailable as error:
            log.warning("the broker does not have the queue limits yet", queue=queue, error=str(error))
        return self.of(queue)

    def pause(self, queue: str) -> QueueLimitsResponse:
        """Start no more tasks of this queue. Running tasks go on, and the limits stay. Raises as `put`."""
        return self._set_paused(queue, paused=True)

    def resume(self, queue: str) -> QueueLimitsResponse:
        """Start tasks of this queue again. Raises as `put`."""
        return self._set_paused(queue, paused=False)

    def _set_paused(self, queue: str, *, paused: bool) -> QueueLimitsResponse:
        now = self.of(queue)
        kept = now.model_dump(include=set(LimitsRequest.model_fields) - {"paused"})
        return self.put(queue, LimitsRequest(**kept, paused=paused))

    def _stats(self) -> dict[str, QueueStats]:
        try:
            return {stats.queue: stats for stats in self._broker.stats(list(declared)) or ()}
        except BrokerUnavailable:
            return {}


def _record(session: Session, queue: str, *, before: RateLimit, after: RateLimit) -> None:
    """Record the change as a pause, as a resume, or as new limits."""
    action = "queue.limit"
    if replace(before, paused=after.paused) == after != before:
        action = "queue.pause" if after.paused else "queue.resume"
    record(session, action, ("queue", queue), before=asdict(before), after=asdict(after))


def check_declared(queue: str) -> None:
    """Raise NoSuchQueue unless the application declares the queue."""
    if queue not in declared:
        raise NoSuchQueue(queue, list(declared))


def _rate_limit(row: QueueLimit) -> RateLimit:
    values = {name: getattr(row, name) for name in RateLimit.__dataclass_fields__}
    return RateLimit(**values)


def _response(queue: str, row: QueueLimit | None, stats: QueueStats | None) -> QueueLimitsResponse:
    limit = _rate_limit(row) if row else RateLimit()
    updated: datetime | None = row.updated_at if row else None
    in_force = limit.holds(stats) if stats is not None else None
    return QueueLimitsResponse(queue=queue, updated_at=updated, in_force=in_force, **asdict(limit))
