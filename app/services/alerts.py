"""What an operator should know without looking: failing tasks, long queues, queues that nobody serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from app.core import clock
from app.core.config import OperationSettings
from app.core.logging import logger
from app.db.models import Alert
from app.db.repositories import alerts as repository
from app.db.repositories import callbacks, task_runs
from app.db.session import Database
from app.services.callback_rules import ALERT as ENDPOINT_DISABLED
from app.services.callback_rules import complaint
from app.services.task_manager import TaskManager

log = logger(__name__)

Finding = tuple[str, str, str]
"""Kind, subject, message."""
MOST_ENDPOINTS = 100
"""Disabled receivers of webhooks that have an alert each."""


class Alerts:
    """Opens an alert when something becomes wrong, and closes it when it is right again."""

    def __init__(self, database: Database, tasks: TaskManager, settings: OperationSettings) -> None:
        self._database, self._tasks, self._settings = database, tasks, settings

    def sweep(self) -> dict[str, Any]:
        """Look at everything once; gives back what is open, and what was opened and closed by this look."""
        findings = list(self._findings())
        now = clock.now()
        with self._database.transaction() as session:
            opened = [
                finding
                for finding in findings
                if repository.open_alert(session, finding[0], subject=finding[1], message=finding[2], now=now)
            ]
            closed = repository.close_others(session, {(kind, subject) for kind, subject, _ in findings}, now=now)
        for kind, subject, message in opened:
            log.warning("alert opened", kind=kind, subject=subject, message=message)
        for alert in closed:
            log.info("alert closed", kind=alert.kind, subject=alert.subject)
        return {"open": len(findings), "opened": [message for _, _, message in opened],
                "closed": [f"{alert.kind} {alert.subject}" for alert in closed]}  # fmt: skip

    def listing(self, *, closed: bool = False) -> Sequence[Alert]:
        """Open alerts, or closed ones too, newest first."""
        with self._database.reading() as session:
            return repository.listing(session, closed=closed)

    def _findings(self) -> Iterator[Finding]:
        for name, queue in self._tasks.queues().items():
            waiting = queue.pending + queue.scheduled
            if waiting >= self._settings.alert_backlog:
                yield (
                    "backlog",
                    name,
                    f"{waiting} tasks wait in the queue {name!r} (ALERT_BACKLOG is {self._settings.alert_backlog})",
                )
            if queue.pending and not queue.workers:
                yield (
                    "no_worker",
                    name,
                    f"{queue.pending} tasks wait in the queue {name!r}, which no live worker serves",
                )
        with self._database.reading() as session:
            failures = task_runs.count_failures(session, since=clock.now() - timedelta(hours=1))
            disabled = callbacks.disabled_for_cause(session, limit=MOST_ENDPOINTS)
        for task, count in failures.items():
            if count >= self._settings.alert_failures:
                yield "failures", task, f"{task} failed for good {count} times within an hour"
        for endpoint in disabled:
            yield ENDPOINT_DISABLED, endpoint.id, complaint(endpoint)
