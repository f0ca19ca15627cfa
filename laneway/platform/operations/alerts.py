"""What an operator should know without looking: failing tasks, long queues, queues that nobody serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from laneway.platform import clock
from laneway.platform.db.models import Alert
from laneway.platform.db.queries import alerts as repository
from laneway.platform.db.queries import outbound_webhooks, task_runs
from laneway.platform.db.session import Database
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.schemas.alert import AlertsOpened
from laneway.platform.settings import OperationSettings
from laneway.platform.submission.outbox import SubmissionTransaction
from laneway.platform.task_manager import TaskManager
from laneway.platform.webhooks.endpoint_rules import ALERT as ENDPOINT_DISABLED
from laneway.platform.webhooks.endpoint_rules import complaint

log = logger(__name__)

Finding = tuple[str, str, str]
"""Kind, subject, message."""
NOTICE_ROLE: Final = "notices about alerts"
TELL_AGAIN = timedelta(hours=1)
"""An alert about the same is told by e-mail once in so long."""
MOST_ENDPOINTS = 100
"""Disabled receivers of webhooks that have an alert each."""


class Alerts:
    """Opens an alert when something becomes wrong, and closes it when it is right again."""

    def __init__(
        self, database: Database, tasks: TaskManager, settings: OperationSettings, *, with_notices: bool = False
    ) -> None:
        """`with_notices`: a task with the role `NOTICE_ROLE` is submitted for alerts that nobody was told of."""
        self._database, self._tasks, self._settings, self._with_notices = database, tasks, settings, with_notices

    def sweep(self) -> dict[str, Any]:
        """Look at everything once; gives back what is open, and what was opened and closed by this look."""
        findings = list(self._findings())
        now = clock.now()
        with self._tasks.transaction() as unit:
            session = unit.session
            opened = [
                finding
                for finding in findings
                if repository.open_alert(session, finding[0], subject=finding[1], message=finding[2], now=now)
            ]
            closed = repository.close_others(session, {(kind, subject) for kind, subject, _ in findings}, now=now)
            if self._with_notices:
                _tell(unit, now=now)
        for kind, subject, message in opened:
            log.warning("alert opened", kind=kind, subject=subject, message=message)
        for alert in closed:
            log.info("alert closed", kind=alert.kind, subject=alert.subject)
        return {
            "open": len(findings),
            "opened": [message for _, _, message in opened],
            "closed": [f"{alert.kind} {alert.subject}" for alert in closed],
        }

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
                    f"{_waiting(waiting)} in the queue {name!r} (ALERT_BACKLOG is {self._settings.alert_backlog})",
                )
            if queue.pending and not queue.workers:
                yield (
                    "no_worker",
                    name,
                    f"{_waiting(queue.pending)} in the queue {name!r}, which no live worker serves",
                )
        with self._database.reading() as session:
            failures = task_runs.count_failures(session, since=clock.now() - timedelta(hours=1))
            disabled = outbound_webhooks.disabled_automatically(session, limit=MOST_ENDPOINTS)
        for task, count in failures.items():
            if count >= self._settings.alert_failures:
                yield "failures", task, f"{task} failed for good {count} times within an hour"
        for endpoint in disabled:
            yield ENDPOINT_DISABLED, endpoint.id, complaint(endpoint)


def _waiting(number: int) -> str:
    return "1 task waits" if number == 1 else f"{number} tasks wait"


def _tell(unit: SubmissionTransaction, *, now: datetime) -> None:
    """Have whoever is configured told of what they do not know yet: what comes and goes once in a while only."""
    alerts = repository.unannounced(unit.session, lately=now - TELL_AGAIN)
    for alert in alerts:
        alert.announced_at = now
    if alerts:
        unit.submit(registry.by_role(NOTICE_ROLE), AlertsOpened(alerts=[alert.id for alert in alerts]))
