"""What the queues look like now: how much waits in each, how much runs, how fast it comes in and goes out.

The sizes come from the broker, which counts them without a scan. The database knows what waits for the broker, the
dead letters, and what was accepted and ended within the last seconds. Without the delivery engine, or while the broker
does not answer, the database counts the sizes as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from laneway.engine import QueueStats
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.queries import overview as queries
from laneway.platform.db.queries import queue_limits, workers
from laneway.platform.db.queries.durations import Period
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.queues import Lane
from laneway.platform.queues import queues as declared
from laneway.schemas.task import TaskState

RATE_PERIOD: Final = timedelta(seconds=10)
"""The time over which the rates are measured."""
COUNTED: Final = (
    *(TaskState.ACCEPTED, TaskState.PENDING, TaskState.SCHEDULED, TaskState.PROCESSING, TaskState.DEAD_LETTER),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverview:
    """What one queue looks like."""

    name: str
    lane: str
    waiting: int = 0
    """Tasks that could run now, and those that have not reached the broker yet."""
    running: int = 0
    scheduled: int = 0
    held: int = 0
    """Tasks that wait for an earlier task of the same key."""
    dead: int = 0
    oldest_seconds: int | None = None
    """How long the task that is next has waited. None: nothing waits, or it is not known."""
    oldest_at: datetime | None = None
    """Since when it has waited."""
    workers: int = 0
    paused: bool = False
    rate: int | None = None
    per_seconds: float = 1.0
    max_in_flight: int | None = None
    accepted: int = 0
    """Tasks that were accepted within the period."""
    completed: int = 0
    failed: int = 0

    @property
    def is_limited(self) -> bool:
        """Whether an operator has limited it."""
        return self.rate is not None or self.max_in_flight is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What all queues look like at a moment. `period`: the seconds over which the flows are counted."""

    queues: Sequence[QueueOverview]
    at: datetime
    period: float
    live_workers: int = 0
    broker_answers: bool = True
    total: QueueOverview = field(default_factory=lambda: QueueOverview(name="", lane=""))


class Overviews:
    """Looks at the queues."""

    def __init__(self, database: Database, broker: Broker, recorder: JournalRecorder) -> None:
        self._database, self._broker, self._recorder = database, broker, recorder

    def now(self, *, period: timedelta = RATE_PERIOD, until: datetime | None = None) -> Overview:
        """Look now. The flows are those of the period before `until`; None: before now. Raises DatabaseUnavailable."""
        self._recorder.catch_up_quietly()
        now = clock.now()
        flows = Period((until or now) - period, until or now)
        stats = self._stats()
        with self._database.reading() as session:
            states = COUNTED if stats is None else (TaskState.ACCEPTED, TaskState.DEAD_LETTER)
            counts = queries.count_in(session, states)
            accepted, ended = queries.accepted(session, flows), queries.ended(session, flows)
            serving, living = workers.serving(session, now=now), len(workers.alive(session, now=now))
            limits = {limit.queue: limit for limit in queue_limits.all_limits(session)}
        names = [*declared, *sorted({queue for queue, _ in counts} - set(declared))]
        found: list[QueueOverview] = []
        for name in names:
            sizes = _sizes(name, counts, stats.get(name) if stats else None, now=now)
            limit, (completed, failed) = limits.get(name), ended.get(name, (0, 0))
            found.append(
                QueueOverview(
                    name=name,
                    lane=declared.get(name, Lane.LOW),
                    **sizes,
                    dead=counts.get((name, TaskState.DEAD_LETTER), 0),
                    workers=serving.get(name, 0),
                    paused=bool(limit and limit.paused),
                    rate=limit.rate if limit else None,
                    per_seconds=limit.per_seconds if limit else 1.0,
                    max_in_flight=limit.max_in_flight if limit else None,
                    accepted=accepted.get(name, 0),
                    completed=completed,
                    failed=failed,
                )
            )
        answers = stats is not None or self._broker.engine is None
        return make_overview(found, at=now, period=period.total_seconds(), live_workers=living, broker_answers=answers)

    def _stats(self) -> dict[str, QueueStats] | None:
        """The broker's figures by queue; None without the engine, and while the broker does not answer."""
        try:
            stats = self._broker.stats(list(declared))
        except BrokerUnavailable:
            return None
        return None if stats is None else {each.queue: each for each in stats}


def make_overview(
    queues: Sequence[QueueOverview], *, at: datetime, period: float, live_workers: int, broker_answers: bool = True
) -> Overview:
    """An overview of these queues, with their total."""
    oldest = [queue.oldest_seconds for queue in queues if queue.oldest_seconds is not None]
    oldest_at = [queue.oldest_at for queue in queues if queue.oldest_at is not None]
    sums: dict[str, Any] = {
        name: sum(getattr(queue, name) for queue in queues)
        for name in ("waiting", "running", "scheduled", "held", "dead", "accepted", "completed", "failed")
    }
    total = QueueOverview(
        name="",
        lane="",
        **sums,
        oldest_seconds=max(oldest, default=None),
        oldest_at=min(oldest_at, default=None),
        workers=live_workers,
    )
    return Overview(
        queues=queues, at=at, period=period, live_workers=live_workers, broker_answers=broker_answers, total=total
    )


def _sizes(name: str, counts: dict[tuple[str, str], int], stats: QueueStats | None, *, now: datetime) -> dict[str, Any]:
    accepted = counts.get((name, TaskState.ACCEPTED), 0)
    if stats is None:
        return {
            "waiting": accepted + counts.get((name, TaskState.PENDING), 0),
            "running": counts.get((name, TaskState.PROCESSING), 0),
            "scheduled": counts.get((name, TaskState.SCHEDULED), 0),
        }
    oldest = None if stats.oldest_at is None else datetime.fromtimestamp(stats.oldest_at / 1000, UTC)
    return {
        "waiting": accepted + stats.ready + stats.set_aside,
        "running": stats.leased,
        "scheduled": stats.scheduled,
        "held": stats.held + stats.limited,
        "oldest_at": oldest,
        "oldest_seconds": None if oldest is None else max(0, int((now - oldest).total_seconds())),
    }
