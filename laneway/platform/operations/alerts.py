"""Alerts: failing tasks, long queues, queues without a worker, workers of one name, messages outside of the declared
queues, schedules that stand still, and receivers of webhooks that were disabled. An application adds its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from laneway.platform import clock
from laneway.platform.db.models import Alert
from laneway.platform.db.queries import alerts as repository
from laneway.platform.db.queries import outbound_webhooks, task_runs, workers
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.logging import logger
from laneway.platform.operations.intake import Intake
from laneway.platform.operations.readiness import shared_name_problem
from laneway.platform.operations.unknown_queues import UnknownQueues
from laneway.platform.registry import registry
from laneway.platform.schedules.watch import BEAT, ScheduleWatch, Standstill
from laneway.platform.settings import OperationSettings
from laneway.platform.submission.outbox import SubmissionTransaction
from laneway.platform.task_manager import TaskManager
from laneway.platform.webhooks.endpoint_rules import ALERT as ENDPOINT_DISABLED
from laneway.platform.webhooks.endpoint_rules import alert_message
from laneway.schemas.alert import AlertsOpened
from laneway.schemas.task import QueueFigures

log = logger(__name__)

NOTICE_ROLE: Final = "notices about alerts"
NOTIFY_EVERY: Final = timedelta(hours=1)
"""At most one e-mail is sent about the same kind and subject in this time."""
FAILURE_PERIOD: Final = timedelta(hours=1)
"""Failures of a task are counted over this time."""
MAX_ENDPOINTS: Final = 100
"""At most this many disabled receivers of webhooks get an alert each."""


class AlertCondition(NamedTuple):
    """A problem that exists now; kind and subject identify its alert."""

    kind: str
    subject: str
    message: str


class Alerts:
    """Opens an alert when a problem appears, and closes it when the problem is gone."""

    def __init__(
        self,
        database: Database,
        tasks: TaskManager,
        settings: OperationSettings,
        *,
        intake: Intake,
        unknown_queues: UnknownQueues | None = None,
        schedules: ScheduleWatch | None = None,
        with_notices: bool = False,
        more: Callable[[], Iterable[AlertCondition]] = tuple,
    ) -> None:
        """`with_notices`: for new alerts, submit the task with the role `NOTICE_ROLE`, which notifies somebody.

        `more`: the problems of the application that exist now.
        """
        self._database, self._tasks, self._settings, self._with_notices = database, tasks, settings, with_notices
        self._intake, self._unknown_queues = intake, unknown_queues
        self._schedules, self._stood_still = schedules, False
        self._more = more

    def sweep(self) -> dict[str, Any]:
        """Look for problems once; return the number of open alerts and what this sweep opened and closed."""
        conditions = list(self._conditions())
        now = clock.now()
        with self._tasks.transaction() as unit:
            opened = [condition for condition in conditions if _open_alert(unit, condition, now=now)]
            current = {(condition.kind, condition.subject) for condition in conditions}
            closed = repository.close_others(unit.session, current, now=now)
            if self._with_notices:
                _notify(unit, now=now)
        for condition in opened:
            log.warning("alert opened", **condition._asdict())
        for alert in closed:
            log.info("alert closed", kind=alert.kind, subject=alert.subject)
        return {
            "open": len(conditions),
            "opened": [condition.message for condition in opened],
            "closed": [f"{alert.kind} {alert.subject}" for alert in closed],
        }

    def watch_schedules(self) -> None:
        """Sweep if a schedule stands still, or did so at the last call: the scheduled sweep may not come then.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        stands_still = bool(self._schedules and self._schedules.standstills())
        if stands_still or self._stood_still:
            self.sweep()
        self._stood_still = stands_still

    def listing(self, *, closed: bool = False) -> Sequence[Alert]:
        """Return the open alerts, newest first; with `closed` the closed ones as well."""
        with self._database.reading() as session:
            return repository.listing(session, closed=closed)

    def _conditions(self) -> Iterator[AlertCondition]:
        for name, queue in self._tasks.queues().items():
            yield from self._queue_conditions(name, queue)
        with suppress(BrokerUnavailable):  # the database's alerts are told all the same
            yield from self._misplaced_messages()
        yield from self._schedule_conditions()
        with self._database.reading() as session:
            failures = task_runs.count_failures(session, since=clock.now() - FAILURE_PERIOD)
            disabled = outbound_webhooks.disabled_automatically(session, limit=MAX_ENDPOINTS)
            shared = workers.shared_names(session, now=clock.now())
        for task, count in failures.items():
            if count >= self._settings.alert_failures:
                yield AlertCondition("failures", task, f"{task} failed for good {count} times within an hour")
        for worker, number in shared.items():
            yield AlertCondition("worker_name", worker[:200], shared_name_problem(worker, number))
        for endpoint in disabled:
            yield AlertCondition(ENDPOINT_DISABLED, endpoint.id, alert_message(endpoint))
        yield from self._more()

    def _misplaced_messages(self) -> Iterator[AlertCondition]:
        stranded = self._intake.stranded()
        for each in stranded:
            yield AlertCondition("stranded", each.queue, str(each))
        for queue in self._unknown_queues.look() if self._unknown_queues else ():
            if queue.queue not in {each.queue for each in stranded} and not queue.running:
                yield AlertCondition("unknown_queue", queue.queue[:200], str(queue))

    def _schedule_conditions(self) -> Iterator[AlertCondition]:
        try:
            found = self._schedules.standstills() if self._schedules else []
        except BrokerUnavailable as error:
            found = [Standstill(BEAT, f"nothing that is scheduled can be sent: {error}")]
        for subject, reason in found:
            yield AlertCondition("schedule", subject, reason)

    def _queue_conditions(self, name: str, queue: QueueFigures) -> Iterator[AlertCondition]:
        waiting, limit = queue.pending + queue.scheduled, self._settings.alert_backlog
        if waiting >= limit:
            message = f"{_tasks_wait(waiting)} in the queue {name!r} (ALERT_BACKLOG is {limit})"
            yield AlertCondition("backlog", name, message)
        if queue.pending and not queue.workers:
            message = f"{_tasks_wait(queue.pending)} in the queue {name!r}, which no live worker serves"
            yield AlertCondition("no_worker", name, message)


def _open_alert(unit: SubmissionTransaction, condition: AlertCondition, *, now: datetime) -> bool:
    """Open the alert of this problem, or update the text of the open one; True when it is new."""
    kind, subject, message = condition
    return repository.open_alert(unit.session, kind, subject=subject, message=message, now=now)


def _tasks_wait(number: int) -> str:
    return "1 task waits" if number == 1 else f"{number} tasks wait"


def _notify(unit: SubmissionTransaction, *, now: datetime) -> None:
    """Submit a notice about new alerts, but at most once an hour about one problem, which may come and go often."""
    alerts = repository.unnotified(unit.session, notified_since=now - NOTIFY_EVERY)
    for alert in alerts:
        alert.notified_at = now
    if alerts:
        unit.submit(registry.by_role(NOTICE_ROLE), AlertsOpened(alerts=[alert.id for alert in alerts]))
