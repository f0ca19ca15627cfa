"""What is kept for how long: everything older is deleted, in small transactions, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.queries import retention as repository
from laneway.platform.db.queries import search
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.logging import logger
from laneway.platform.schemas.history import Cleared
from laneway.platform.schemas.task import TaskState
from laneway.platform.settings import StorageSettings, TaskSettings

Progress = Callable[[float, str], None]
"""Told how far the sweep is (0 to 100) and what it does; what it raises stops the sweep between two batches."""

TRASH_KEPT: Final = timedelta(days=1)
KEEP_CLOSED_ALERTS: Final = timedelta(days=30)
KEEP_SILENT_WORKERS: Final = timedelta(days=1)
BATCH: Final = 500
"""Rows a transaction: few enough for other writers to get their turn on SQLite."""
MOST_CLEARED: Final = 10_000
"""Tasks deleted by one call of `clear`."""

log = logger(__name__)


class Take(Protocol):
    """Takes one batch and says how many rows it was."""

    def __call__(self, session: Session, *, before: datetime, limit: int) -> int: ...


class RetentionRule(NamedTuple):
    """One kind of data: its name in the counts, how a batch is taken, and how long it is kept."""

    kind: str
    take: Take
    age: timedelta


class Step(NamedTuple):
    """One kind of data: its name in the counts, how a batch is taken, and from what age on."""

    kind: str
    take: Take
    before: datetime


class Retention:
    """Deletes what is older than its retention. Interrupted anywhere, the next sweep goes on where this one ended."""

    def __init__(
        self, database: Database, storage: StorageSettings, tasks: TaskSettings, *, more: Sequence[RetentionRule] = ()
    ) -> None:
        """`more`: what else is deleted by age, in this order, such as the application's own data."""
        self._database, self._storage, self._tasks, self._more = database, storage, tasks, more

    def sweep(
        self, *, now: datetime, batch: int = BATCH, progress: Progress | None = None, task_hours: float | None = None
    ) -> dict[str, int]:
        """Delete everything that is too old at `now`, `batch` rows a transaction; gives back the counts by kind.

        `task_hours`: tasks that ended longer ago go, instead of what is configured.

        Unfinished tasks, open alerts and webhooks still to be processed stay, however old they are.
        """
        steps = self._steps(now, task_hours)
        counts = {step.kind: 0 for step in steps}
        for number, step in enumerate(steps):
            for taken in self._batches(step, batch):
                counts[step.kind] += taken
                if progress:
                    progress(100 * number / len(steps), f"{step.kind}: {counts[step.kind]}")
        return counts

    def clean_up_workflows(self, *, before: datetime, batch: int = BATCH, progress: Progress | None = None) -> int:
        """Delete the workflows that ended before then; how many. They have a schedule, and an age, of their own."""
        count = 0
        for taken in self._batches(Step("workflows", repository.delete_workflows, before), batch):
            count += taken
            if progress:
                progress(50, f"workflows: {count}")
        return count

    def clear(self, states: Sequence[TaskState], *, older_than: float, most: int = MOST_CLEARED) -> Cleared:
        """Delete tasks that ended in these states more than `older_than` seconds ago, in batches, `most` of them."""
        before, deleted, taken = clock.now() - timedelta(seconds=older_than), 0, BATCH
        while taken == BATCH and deleted < most:
            with self._database.transaction() as session:
                taken = repository.clear_tasks(session, states=states, before=before, limit=BATCH)
            deleted += taken
        log.warning("tasks cleared", states=[str(state) for state in states], older_than=older_than, tasks=deleted)
        return Cleared(deleted=deleted, more=taken == BATCH)

    def _steps(self, now: datetime, task_hours: float | None) -> list[Step]:
        tasks = timedelta(days=self._storage.keep_tasks) if task_hours is None else timedelta(hours=task_hours)
        webhooks = timedelta(days=self._storage.keep_webhooks)
        rules = [
            RetentionRule("tasks", repository.delete_tasks, tasks),
            RetentionRule("trashed", search.delete_trashed, TRASH_KEPT),
            RetentionRule("dead_letters", self._beyond_the_cap, timedelta(0)),
            RetentionRule("task_contents", repository.blank_tasks, timedelta(hours=self._tasks.status_expiry_hours)),
            *self._more,
            RetentionRule("outbound_deliveries", repository.delete_outbound_deliveries, webhooks),
            RetentionRule("outbound_endpoints", repository.delete_endpoints, webhooks),
            RetentionRule("alerts", repository.delete_alerts, KEEP_CLOSED_ALERTS),
            RetentionRule("workers", repository.delete_workers, KEEP_SILENT_WORKERS),
        ]
        return [Step(rule.kind, rule.take, now - rule.age) for rule in rules]

    def _beyond_the_cap(self, session: Session, *, before: datetime, limit: int) -> int:
        del before
        dead = Filter(states=(TaskState.DEAD_LETTER,))
        return search.delete_beyond(session, dead, most=self._tasks.max_dead_letters, limit=limit)

    def _batches(self, step: Step, size: int) -> Iterator[int]:
        """How many rows each batch took, until one is not full; every batch is committed before the next."""
        taken = size
        while taken == size:
            with self._database.transaction() as session:
                taken = step.take(session, before=step.before, limit=size)
            yield taken
