"""What is kept for how long: everything older is deleted, in small transactions, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from sqlalchemy.orm import Session

from app.core import clock
from app.core.config import StorageSettings, TaskSettings
from app.core.logging import logger
from app.db.repositories import retention as repository
from app.db.repositories import search
from app.db.repositories.search import Filter
from app.db.session import Database
from app.schemas.history import Cleared
from app.schemas.task import State

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


class Step(NamedTuple):
    """One kind of data: its name in the counts, how a batch is taken, and from what age on."""

    kind: str
    take: Take
    before: datetime


class Retention:
    """Deletes what is older than its retention. Interrupted anywhere, the next sweep goes on where this one ended."""

    def __init__(self, database: Database, storage: StorageSettings, tasks: TaskSettings) -> None:
        self._database, self._storage, self._tasks = database, storage, tasks

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

    def clear(self, states: Sequence[State], *, older_than: float, most: int = MOST_CLEARED) -> Cleared:
        """Delete tasks that ended in these states more than `older_than` seconds ago, in batches, `most` of them."""
        before, deleted, taken = clock.now() - timedelta(seconds=older_than), 0, BATCH
        while taken == BATCH and deleted < most:
            with self._database.transaction() as session:
                taken = repository.clear_tasks(session, states=states, before=before, limit=BATCH)
            deleted += taken
        log.warning("tasks cleared", states=[str(state) for state in states], older_than=older_than, tasks=deleted)
        return Cleared(deleted=deleted, more=taken == BATCH)

    def _steps(self, now: datetime, task_hours: float | None) -> list[Step]:
        """In this order: messages before their conversations, events before the deliveries that they came in."""
        tasks, conversations, webhooks, reports = (
            now - timedelta(days=days)
            for days in (self._storage.keep_tasks, self._storage.keep_conversations, self._storage.keep_webhooks,
                         self._storage.keep_reports)
        )  # fmt: skip
        if task_hours is not None:
            tasks = now - timedelta(hours=task_hours)
        return [
            Step("tasks", repository.delete_tasks, tasks),
            Step("trashed", search.delete_trashed, now - TRASH_KEPT),
            Step("dead_letters", self._beyond_the_cap, now),
            Step("task_contents", repository.blank_tasks, now - timedelta(hours=self._tasks.status_expiry_hours)),
            Step("messages", repository.delete_messages, conversations),
            Step("conversations", repository.delete_conversations, conversations),
            Step("webhook_events", repository.delete_events, webhooks),
            Step("webhook_deliveries", repository.delete_deliveries, webhooks),
            Step("callback_deliveries", repository.delete_callbacks, webhooks),
            Step("callback_endpoints", repository.delete_endpoints, webhooks),
            Step("leads", repository.delete_leads, now - timedelta(days=self._storage.keep_leads)),
            Step("documents", repository.delete_documents, conversations),
            Step("reports", repository.delete_reports, reports),
            Step("alerts", repository.delete_alerts, now - KEEP_CLOSED_ALERTS),
            Step("workers", repository.delete_workers, now - KEEP_SILENT_WORKERS),
        ]

    def _beyond_the_cap(self, session: Session, *, before: datetime, limit: int) -> int:
        del before
        dead = Filter(states=(State.DEAD_LETTER,))
        return search.delete_beyond(session, dead, most=self._tasks.max_dead_letters, limit=limit)

    def _batches(self, step: Step, size: int) -> Iterator[int]:
        """How many rows each batch took, until one is not full; every batch is committed before the next."""
        taken = size
        while taken == size:
            with self._database.transaction() as session:
                taken = step.take(session, before=step.before, limit=size)
            yield taken
