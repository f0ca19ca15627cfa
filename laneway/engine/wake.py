"""`wake` makes a task that waits for a time due now: what it waited for has happened earlier."""

from __future__ import annotations

from typing import NamedTuple

from laneway.engine.admin import Admin
from laneway.engine.message import pack_id


class WakeResult(NamedTuple):
    """What became of the messages of a task."""

    woken: int
    """Scheduled messages that are due now."""
    leased: int
    """Messages that a worker holds. One of them may be scheduled when its attempt ends: wake it again then."""


def wake(engine: Admin, queue: str, task_id: str) -> WakeResult:
    """Make the scheduled messages of a task due now. A message that is held behind its ordering key stays there."""
    return WakeResult(*engine.runner.run("wake", (engine.keys.queue(queue),), (pack_id(task_id),)))
