"""Submits the tasks that wake others, in the transaction that brings what those wait for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Final, Protocol

from sqlalchemy.orm import Session

from laneway.platform import clock, tracing
from laneway.platform.db.queries import task_waits
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.registry import TaskRef, registry
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions, accept, row_of
from laneway.schemas.payload import Payload, Wake
from laneway.schemas.task import TaskState

WAKE_ROLE: Final = "waking tasks"
MOST_TARGETS: Final = 500
"""Things of which one such task tells."""


class Unit(Protocol):
    """A transaction with submissions; `SubmissionTransaction` is one."""

    session: Session

    def submit(self, task: TaskRef, payload: Payload | dict[str, Any]) -> Any:
        """Accept one task with this transaction."""
        ...


def submit_wake(unit: Unit, kind: WaitKind, target: str) -> None:
    """Submit the task that wakes whoever waits for this, now or in a moment."""
    if registry.has_role(WAKE_ROLE):
        unit.submit(registry.by_role(WAKE_ROLE), Wake(kind=kind, targets=(target,), asked_at=clock.now()))


def submit_wake_if_awaited(unit: Unit, kind: WaitKind, target: str) -> None:
    """As `submit_wake`, if somebody waits now. Who comes later has to look under a lock that this transaction holds."""
    if task_waits.targets_awaited(unit.session, kind, [target]):
        submit_wake(unit, kind, target)


def submit_wakes(session: Session, kind: WaitKind, targets: Sequence[str], settings: TaskSettings) -> None:
    """Submit a task for those of many targets that somebody waits for now; the outbox relay sends it.

    What happened is flushed before. So nobody who comes later misses it.
    """
    if not targets or not registry.has_role(WAKE_ROLE):
        return
    session.flush()
    awaited = task_waits.targets_awaited(session, kind, targets)
    for first in range(0, len(awaited), MOST_TARGETS):
        wake = Wake(kind=kind, targets=tuple(awaited[first : first + MOST_TARGETS]), asked_at=clock.now())
        with nullcontext() if (spans := tracing.active) is None else spans.within({}):
            values = row_of(registry.by_role(WAKE_ROLE), wake, SubmitOptions(), settings)
        accept(session, values | {"state": TaskState.ACCEPTED, "published_at": None})
