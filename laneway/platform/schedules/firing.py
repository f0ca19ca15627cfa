"""One firing: stores what became of a due time, and submits its task, in one transaction.

The firing and the row of the task are committed together, and the firing's key lets a due time fire once. So neither a
second scheduler, nor a restart, nor a clock that was set sends a task twice, and a crash loses none. The task's id is
made of the key and the due time, too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from celery import Celery
from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.access.errors import InternalTask
from laneway.platform.broker import Broker
from laneway.platform.broker_errors import translated_errors
from laneway.platform.db.models import StoredSchedule
from laneway.platform.db.queries import schedules as queries
from laneway.platform.db.session import Database
from laneway.platform.logging import logger
from laneway.platform.queues import Priority
from laneway.platform.registry import TaskSpec, registry
from laneway.platform.schedules.definition import Definition, firing_id
from laneway.platform.schedules.earlier_tasks import EarlierTasks
from laneway.platform.submission.ordering_keys import ordering_key
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.platform.submission.transaction import SubmissionTransaction
from laneway.platform.task_manager import TaskManager
from laneway.platform.webhooks.reserved_events import refuse_reserved_event
from laneway.schemas.schedule import Overlap

log = logger(__name__)

CODE: Final = "code"
OPERATOR: Final = "operator"
SKIPPED: Final = "skipped"
MISSED: Final = "missed"
REFUSED: Final = "refused"
MAX_REASON: Final = 500
"""Characters that are kept of the reason why a firing was refused."""


class Firing(NamedTuple):
    """A due time of a schedule, as it was read. `entry`: that of Celery's setting `beat_schedule`, of the code."""

    row: StoredSchedule
    definition: Definition
    due: datetime
    entry: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        return firing_id(self.row.key, self.due)


class Firings:
    """Fires the due times of schedules."""

    def __init__(self, app: Celery, database: Database, broker: Broker, tasks: TaskManager) -> None:
        self._app, self._database, self._broker, self._tasks = app, database, broker, tasks
        self._earlier = EarlierTasks(database, tasks)

    def fire(self, firing: Firing) -> None:
        """Submit the task of a due time, or leave it out as `overlap` says. Raises as `TaskManager.submit`."""
        if firing.definition.overlap is Overlap.QUEUE:
            self._broker.require_engine("the overlap policy `queue`")
        while not self._try(firing):
            log.info(f"Due task {firing.row.key}: a task was sent meanwhile, so its policy decides once more")
        firing.row.decided_until = firing.due  # of the row as it was read: the next due time follows

    def _try(self, firing: Firing) -> bool:
        """As `fire`; False: an operator has run the schedule meanwhile, so that its policy has to decide once more."""
        overlap, earlier = firing.definition.overlap, None
        if overlap in (Overlap.SKIP, Overlap.REPLACE):
            earlier = self._earlier.of(firing.row.key)
        if earlier and earlier.unfinished and overlap is Overlap.SKIP:
            self.settle(firing, SKIPPED, f"the task {earlier.unfinished[0]} of an earlier firing has not ended")
            return True
        if earlier:
            self._earlier.cancel(earlier)
        with self._tasks.transaction(bounded=True) as transaction:
            session = transaction.session
            if earlier and queries.find(session, firing.row.key, lock=True) and earlier.is_outdated(session):
                return False
            row = self._claim(session, firing, queries.SENT)
            if row is not None:
                log.info(f"Sending due task {row.key} ({firing.definition.task})", task_id=firing.id)
                self._submit(transaction, firing)
                row.last_due_at, row.problem = firing.due, None
        return True

    def settle(self, firing: Firing, outcome: str, reason: str) -> None:
        """Store why a due time sends no task. Only the reason of a refusal is a problem of the schedule."""
        tell = log.error if outcome == REFUSED else log.info
        tell(f"Due task {firing.row.key} {outcome}: {reason}")
        with self._database.transaction() as session:
            row = self._claim(session, firing, outcome, reason=reason[:MAX_REASON])
            if row is not None and outcome == REFUSED:
                row.problem = reason[:MAX_REASON]

    def _claim(
        self, session: Session, firing: Firing, outcome: str, *, reason: str | None = None
    ) -> StoredSchedule | None:
        """Store the firing and go on to the next due time; None: it must not fire.

        Somebody has paused, changed or removed the schedule meanwhile, or the due time has fired before.
        """
        row = queries.find(session, firing.row.key, lock=True)
        if row is None or not _is_as_read(row, firing.row):
            return None
        timing = firing.definition.timing(row.key)
        following = timing.next(firing.due)
        row.decided_until = firing.due
        row.next_at = None if following is None else timing.acts_at(following)
        is_new = queries.add_firing(
            session,
            schedule=row.key,
            due_at=firing.due,
            outcome=outcome,
            task_id=firing.id if outcome == queries.SENT else None,
            reason=reason,
            decided_at=clock.now(),
        )
        if not is_new:
            log.warning(f"Due task {row.key} of {firing.due:%Y-%m-%d %H:%M:%S} UTC has fired before; not sent again")
        return row if is_new else None

    def _submit(self, transaction: SubmissionTransaction, firing: Firing) -> None:
        spec = registry.get(firing.definition.task)
        if firing.entry is not None and (spec is None or _is_for_celery(firing.entry)):
            self._send_by_celery(firing.entry, firing.id)
            return
        submit(transaction, firing)

    def _send_by_celery(self, entry: dict[str, Any], id: str) -> None:
        """Send a task as Celery's own Beat does: one that is no task of the platform, or has options of Celery."""
        app: Any = self._app
        options = dict[str, Any](entry.get("options") or {}) | {"task_id": id}
        with translated_errors():
            app.send_task(entry["task"], entry.get("args") or (), entry.get("kwargs") or {}, **options)


def submit(transaction: SubmissionTransaction, firing: Firing) -> None:
    """Submit the task of a firing. Raises as `SubmissionTransaction.submit`, and for what operators may not submit."""
    definition = firing.definition
    spec = registry.find(definition.task)
    if firing.row.source == OPERATOR:
        check_from_outside(spec, definition)
    options = SubmitOptions(
        id=firing.id,
        queue=definition.queue,
        expires=definition.expires,
        priority=Priority[definition.priority.name] if definition.priority else None,
        key=ordering_key(f"schedule:{firing.row.key}") if _has_order(definition) else None,
    )
    transaction.submit(spec, dict(definition.payload), options=options)


def check_from_outside(spec: TaskSpec, definition: Definition) -> None:
    """Raise InternalTask or ReservedEvent for what only the platform submits."""
    if registry.is_internal(spec.name):
        raise InternalTask(spec.name)
    refuse_reserved_event(spec.name, definition.payload)


def _has_order(definition: Definition) -> bool:
    """Whether a task waits until that of the earlier firing has ended, also if that one is being cancelled."""
    return definition.overlap in (Overlap.QUEUE, Overlap.REPLACE)


def _is_for_celery(entry: dict[str, Any]) -> bool:
    return bool(entry.get("args")) or not {"queue", "expires"}.issuperset(entry.get("options") or {})


def _is_as_read(row: StoredSchedule, read: StoredSchedule) -> bool:
    is_active = row.paused_at is None and row.removed_at is None
    return is_active and row.definition == read.definition and row.decided_until == read.decided_until
