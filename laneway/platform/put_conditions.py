"""What must hold when the engine takes the message of a task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from laneway.platform.db.models import TaskRun

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
