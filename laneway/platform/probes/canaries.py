"""Canaries: a schedule sends a small task through each queue, and its latency shows how long any task takes there.

1. At most one canary of a queue is under way: a firing is left out while the one before has not ended.
2. A canary deletes those of its queue that ended some minutes ago, so that they do not fill the history.
3. `read` says how long the last one took, and how long one is overdue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import canaries as queries
from laneway.platform.queues import queues as declared
from laneway.schemas.task import TaskState

KEPT: Final = timedelta(minutes=15)
"""How long a canary is kept after its end."""
DELETED_AT_ONCE: Final = 100
MOST_MS: Final = 2**31 - 1
"""The longest latency that a sample can keep: 24 days."""


@dataclass(frozen=True, slots=True)
class CanaryReading:
    """What the canaries of a queue say. Times are seconds since they were accepted.

    `start`, `end`: of the last one that ran; None: none has. `overdue`: of the first one since then that has not run to
    its end; 0: there is none. `id`, `since`: of that one, and
    when it was accepted.
    """

    queue: str
    start: float | None = None
    end: float | None = None
    overdue: float = 0.0
    id: str | None = None
    since: datetime | None = field(default=None, compare=False)

    @property
    def latency_ms(self) -> int | None:
        """How long a canary takes now: that of the last one, or the age of one that has not ended if that is more."""
        longest = max(self.end or 0.0, self.overdue)
        return min(round(longest * 1000), MOST_MS) if self.end is not None or self.id is not None else None


def read(session: Session, *, now: datetime) -> list[CanaryReading]:
    """What the canaries of each declared queue say whose schedule is in force."""
    watched = queries.watched(session, list(declared))
    if not watched:
        return []
    by_queue: dict[str, list[TaskRun]] = {}
    for run in queries.latest(session):
        by_queue.setdefault(run.queue, []).append(run)
    return [_reading(queue, by_queue.get(queue, ()), now=now) for queue in declared if queue in watched]


def _reading(queue: str, newest_first: Sequence[TaskRun], *, now: datetime) -> CanaryReading:
    waiting: TaskRun | None = None
    for run in newest_first:
        if run.state == TaskState.COMPLETED:
            start, end = _since(run, run.started_at), _since(run, run.finished_at)
            return _with(CanaryReading(queue, start, end), waiting, now=now)
        if run.state != TaskState.CANCELLED:
            waiting = run
    return _with(CanaryReading(queue), waiting, now=now)


def _with(reading: CanaryReading, waiting: TaskRun | None, *, now: datetime) -> CanaryReading:
    if waiting is None:
        return reading
    overdue = max(0.0, (now - waiting.accepted_at).total_seconds())
    return CanaryReading(reading.queue, reading.start, reading.end, overdue, waiting.id, waiting.accepted_at)


def _since(run: TaskRun, moment: datetime | None) -> float | None:
    return None if moment is None else max(0.0, (moment - run.accepted_at).total_seconds())
