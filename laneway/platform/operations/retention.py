"""Retention: delete everything that is older than its limit, in small transactions, and count it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple, Protocol

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.audit_log.recording import record
from laneway.platform.db.queries import batches, bulk_actions, overview, person_sessions, schedules, search
from laneway.platform.db.queries import retention as repository
from laneway.platform.db.queries.retention import FinishedTasks
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.logging import logger
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.operations.retention_rules import check_names, task_rules
from laneway.platform.payload_store import STORED, name_of
from laneway.platform.settings import StorageSettings, TaskRetentionSettings, TaskSettings
from laneway.schemas.history import ClearResponse
from laneway.schemas.maintenance import OtherRuleView, RetentionView, TaskRuleView
from laneway.schemas.task import TaskState

Progress = Callable[[float, str], None]
"""Receives the progress of a sweep (0 to 100) and a message. If it raises, the sweep stops between two batches."""

KEEP_TRASH: Final = timedelta(days=1)
KEEP_CLOSED_ALERTS: Final = timedelta(days=30)
KEEP_SILENT_WORKERS: Final = timedelta(days=1)
KEEP_BATCHES: Final = timedelta(days=30)
"""Those that have tasks stay longer."""
KEEP_SAMPLES: Final = timedelta(days=8)
"""The console shows seven days."""
KEEP_SESSIONS: Final = timedelta(days=30)
"""The longest SESSION_HOURS."""
KEEP_BULK_ACTIONS: Final = timedelta(days=1)
"""An undo is possible for an hour."""
KEEP_FIRINGS: Final = timedelta(days=30)
"""The last ten of each schedule stay."""
BATCH: Final = 500
"""Rows in one transaction: few enough that other writers get their turn on SQLite."""
MAX_CLEARED: Final = 10_000
"""Most tasks that one call of `clear` deletes."""

GIVEN: Final = "the age that was given"

log = logger(__name__)


class RemoveBatch(Protocol):
    """Removes at most `limit` rows (or their contents) from before a time; returns the number of rows."""

    def __call__(self, session: Session, *, before: datetime, limit: int) -> int: ...


class RetentionRule(NamedTuple):
    """One kind of data: its name in the counts, how one batch is removed, and how long it is kept."""

    kind: str
    remove_batch: RemoveBatch
    age: timedelta


class Retention:
    """Deletes what is older than its limit. After an interruption the next sweep continues where this one stopped."""

    def __init__(
        self,
        database: Database,
        storage: StorageSettings,
        tasks: TaskSettings,
        *,
        task_retention: TaskRetentionSettings | None = None,
        more: Sequence[RetentionRule] = (),
    ) -> None:
        """`task_retention`: how long tasks are kept by state, by queue and by name. `more`: rules for further data,
        such as the application's own; they run in this order. Raises ConfigError for days of a queue or of a task that
        does not exist."""
        self._task_retention = task_retention or TaskRetentionSettings()
        check_names(self._task_retention)
        self._database, self._storage, self._tasks, self._more = database, storage, tasks, more

    def sweep(
        self, *, now: datetime, batch: int = BATCH, progress: Progress | None = None, task_hours: float | None = None
    ) -> dict[str, int]:
        """Delete everything that is too old at `now`, `batch` rows a transaction; return the counts by kind.

        `task_hours`: delete tasks that ended longer ago than this, instead of the configured time.

        Unfinished tasks, open alerts and webhooks still to be processed stay, however old they are.
        """
        rules = self._rules(task_hours)
        counts = {rule.kind: 0 for rule in rules}
        for number, rule in enumerate(rules):
            for removed in self._batches(rule.remove_batch, before=now - rule.age, size=batch):
                counts[rule.kind] += removed
                if progress:
                    progress(100 * number / len(rules), f"{rule.kind}: {counts[rule.kind]}")
        if self._tasks.payload_store.url is not None:
            counts["stored_payloads"] = self._sweep_payloads()
        return counts

    def preview(self, *, now: datetime, task_hours: float | None = None) -> RetentionView:
        """Say which rule holds for which tasks, and how many tasks a sweep at `now` would delete. It deletes nothing.

        `task_hours`: as for `sweep`.
        """
        others = [rule for rule in self._rules(task_hours) if rule.kind != "tasks" and rule.age]
        return RetentionView(
            tasks=self._preview_tasks(now, task_hours),
            others=[OtherRuleView(kind=rule.kind, days=rule.age / timedelta(days=1)) for rule in others],
        )

    def _preview_tasks(self, now: datetime, task_hours: float | None) -> list[TaskRuleView]:
        if task_hours is not None:
            age = timedelta(hours=task_hours)
            with self._database.reading() as session:
                number = repository.count_ended(session, before=now - age)
            return [TaskRuleView(days=age / timedelta(days=1), setting=GIVEN, expired=number)]
        found: list[TaskRuleView] = []
        for rule in task_rules(self._task_retention, default=self._storage.keep_tasks):
            with self._database.reading() as session:  # one each: other programs get their turn between two counts
                number = repository.count_ended(session, before=now - timedelta(days=rule.days), which=rule.which)
            found.append(
                TaskRuleView(
                    state=rule.which.state,
                    queue=rule.which.queue,
                    name=rule.name,
                    days=rule.days,
                    setting=rule.setting,
                    expired=number,
                )
            )
        return found

    def _sweep_payloads(self) -> int:
        """Delete the large payloads whose rows are gone; 0 if the storage is away: the next sweep deletes them."""
        with self._database.reading() as session:
            used = [name_of(payload) for payload in repository.stored_payloads(session, like=STORED)]
        try:
            return self._tasks.payload_store.sweep(used)
        except StorageUnavailable as error:
            log.warning("large payloads without a row are left for the next sweep", error=str(error))
            return 0

    def clean_up_workflows(self, *, before: datetime, batch: int = BATCH, progress: Progress | None = None) -> int:
        """Delete the workflows that ended before `before` and return their number.

        They are not part of `sweep`: they have a schedule and an age of their own.
        """
        count = 0
        for removed in self._batches(repository.delete_workflows, before=before, size=batch):
            count += removed
            if progress:
                progress(50, f"workflows: {count}")
        return count

    def clear(self, states: Sequence[TaskState], *, older_than: float, limit: int = MAX_CLEARED) -> ClearResponse:
        """Delete tasks that ended in these states more than `older_than` seconds ago, at most `limit` of them."""
        before, deleted, removed = clock.now() - timedelta(seconds=older_than), 0, 0
        for removed in self._batches(partial(_clear_batch, states=states), before=before, size=BATCH):
            deleted += removed
            if deleted >= limit:
                break
        log.warning("tasks cleared", states=[str(state) for state in states], older_than=older_than, tasks=deleted)
        return ClearResponse(deleted=deleted, more=removed == BATCH)

    def _rules(self, task_hours: float | None) -> list[RetentionRule]:
        webhooks = timedelta(days=self._storage.keep_webhooks)
        return [
            *self._task_rules(task_hours),
            RetentionRule("trashed", search.delete_trashed, KEEP_TRASH),
            RetentionRule("dead_letters", self._delete_excess_dead_letters, timedelta(0)),
            RetentionRule(
                "task_contents", repository.erase_task_contents, timedelta(hours=self._tasks.status_expiry_hours)
            ),
            *self._more,
            RetentionRule("outbound_deliveries", repository.delete_outbound_deliveries, webhooks),
            RetentionRule("outbound_endpoints", repository.delete_endpoints, webhooks),
            RetentionRule("alerts", repository.delete_alerts, KEEP_CLOSED_ALERTS),
            RetentionRule("batches", batches.delete_old, KEEP_BATCHES),
            RetentionRule("workers", repository.delete_workers, KEEP_SILENT_WORKERS),
            RetentionRule("queue_samples", overview.delete_samples, KEEP_SAMPLES),
            RetentionRule("schedule_firings", schedules.delete_firings, KEEP_FIRINGS),
            RetentionRule("bulk_action_tasks", bulk_actions.delete_tasks, KEEP_BULK_ACTIONS),
            RetentionRule("bulk_actions", bulk_actions.delete_actions, KEEP_BULK_ACTIONS),
            RetentionRule("sessions", person_sessions.delete_old, KEEP_SESSIONS),
        ]

    def _task_rules(self, task_hours: float | None) -> list[RetentionRule]:
        """One rule for each age."""
        if task_hours is not None:
            return [RetentionRule("tasks", repository.delete_tasks, timedelta(hours=task_hours))]
        by_days: dict[int, list[FinishedTasks]] = {}
        for rule in task_rules(self._task_retention, default=self._storage.keep_tasks):
            by_days.setdefault(rule.days, []).append(rule.which)
        return [
            RetentionRule("tasks", partial(repository.delete_tasks, which=which), timedelta(days=days))
            for days, which in by_days.items()
        ]

    def _delete_excess_dead_letters(self, session: Session, *, before: datetime, limit: int) -> int:
        """Delete the oldest dead letters beyond MAX_DEAD_LETTERS; their age does not matter."""
        del before
        dead = Filter(states=(TaskState.DEAD_LETTER,))
        return search.delete_beyond(session, dead, keep_newest=self._tasks.max_dead_letters, limit=limit)

    def _batches(self, remove_batch: RemoveBatch, *, before: datetime, size: int) -> Iterator[int]:
        """Remove batches until one is not full; after each commit yield the number of rows that were removed."""
        removed = size
        while removed == size:
            with self._database.transaction() as session:
                removed = remove_batch(session, before=before, limit=size)
            yield removed


def _clear_batch(session: Session, *, states: Sequence[TaskState], before: datetime, limit: int) -> int:
    removed = repository.clear_tasks(session, states=states, before=before, limit=limit)
    which = {"states": [str(state) for state in states], "ended_before": before, "deleted": removed}
    record(session, "history.clear", ("history", "tasks"), after=which)
    return removed
