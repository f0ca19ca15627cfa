"""What must hold when the engine takes the message of a task, and what of a queue it cannot read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from laneway.engine import QueueStats
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.logging import logger

log = logger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PutConditions(TypedDict):
    """What must hold when the engine takes a message: see `Engine.put`."""

    not_after: float | None
    version: int | None


def version_of(runs: Sequence[TaskRun]) -> int | None:
    """Return the version of these messages: the time (µs) of the oldest claim. None: no row is claimed.

    A cancelled row keeps its claim, so a message under this claim or an older one is not needed any more. A later
    submission or retry of the task has a later claim.
    """
    claimed = min((run.published_at for run in runs if run.published_at), default=None)
    return None if claimed is None else (claimed - _EPOCH) // timedelta(microseconds=1)


def seconds_until_due(run: TaskRun) -> float:
    """Return the seconds until a task is due; zero or less when it is due or has no due time."""
    return (run.due_at - clock.now()).total_seconds() if run.due_at else 0


def report_newer(stats: Sequence[QueueStats], reported: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Log which queues or messages only a newer version of Laneway can read, and were not `reported`; return them."""
    found = {(each.queue, f"format {each.format}") for each in stats if each.is_newer}
    found |= {(each.queue, "messages") for each in stats if each.set_aside}
    for queue, what in sorted(found - reported):
        log.warning("left alone: only a newer version of Laneway can read it", queue=queue, what=what)
    return found
