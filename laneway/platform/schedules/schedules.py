"""Schedules as operators see and change them. Beat looks at the database each two seconds, so a change acts by then.

Operators make schedules of their own, change and delete them. Those of the application's code they pause, resume and
have run at once; the rest is changed in the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from celery import Celery
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.access.caller import current_caller
from laneway.platform.access.errors import NotAllowed
from laneway.platform.access.scopes import Scope
from laneway.platform.audit_log.recording import record
from laneway.platform.broker import Broker
from laneway.platform.db.models import ScheduleFiring, StoredSchedule
from laneway.platform.db.queries import schedules as queries
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PermanentError, PlatformError, UnknownQueue
from laneway.platform.logging import logger
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry
from laneway.platform.schedules.definition import Definition
from laneway.platform.schedules.earlier_tasks import EarlierTasks
from laneway.platform.schedules.firing import CODE, OPERATOR, Firing, check_from_outside, submit
from laneway.platform.schedules.keeping import definition_in, has_other_times, settled_until
from laneway.platform.submission.acceptance import validated
from laneway.platform.task_manager import TaskManager
from laneway.schemas.schedule import Overlap

log = logger(__name__)

MAX_SCHEDULES: Final = 1000
"""Schedules that operators may make."""
MAX_NAME: Final = 200
UPCOMING: Final = 10


class ScheduleExists(PlatformError):
    """The key of a new schedule is in use."""

    status, title = 409, "Schedule exists"

    template = "A schedule {key!r} exists: change it, or choose another key."
    key: str


class OfTheCode(PlatformError):
    """The schedule is changed in the application's code."""

    status, title = 409, "Schedule of the code"

    template = "The schedule {key!r} is listed by the application's code: change it there. Here it can be paused."
    key: str


class TooManySchedules(PermanentError):
    """Operators may make no further schedules."""

    title = "Too many schedules"

    template = "There are {number} schedules of operators already: delete one first."
    number: int


class StillRunning(PlatformError):
    """A schedule that leaves firings out while an earlier task runs was run by hand meanwhile."""

    status, title = 409, "An earlier task has not ended"

    template = (
        "The task {task} of the schedule {key!r} has not ended, and the schedule's policy for overlap is `skip`: wait "
        "for its end, or run the schedule beside it."
    )
    key: str
    task: str


class Schedules:
    """Lists, makes and changes schedules."""

    def __init__(self, app: Celery, database: Database, broker: Broker, tasks: TaskManager) -> None:
        self._app, self._database, self._broker, self._tasks = app, database, broker, tasks
        self._earlier = EarlierTasks(database, tasks)

    def listing(self) -> Sequence[StoredSchedule]:
        """Every schedule by key. Those that the code does not list any more are left out."""
        with self._database.reading() as session:
            return [row for row in queries.all_schedules(session) if row.removed_at is None]

    def show(self, key: str) -> tuple[StoredSchedule, Sequence[ScheduleFiring]]:
        """One schedule, and its last ten firings, the newest first. Raises NotFound."""
        with self._database.reading() as session:
            return _find(session, key), queries.last_firings(session, key)

    def create(self, key: str, definition: Definition) -> StoredSchedule:
        """Make a schedule. Raises ScheduleExists, TooManySchedules, and as `check`."""
        check(definition)
        row, now = StoredSchedule(key=key, source=OPERATOR), clock.now()
        with suppress(IntegrityError), self._database.transaction() as session:
            if key in (self._app.conf.beat_schedule or {}) or queries.find(session, key) is not None:
                raise ScheduleExists(key)
            if queries.count(session, OPERATOR) >= MAX_SCHEDULES:
                raise TooManySchedules(MAX_SCHEDULES)
            _define(row, definition, now)
            session.add(row)
            session.flush()
            record(session, "schedule.create", ("schedule", key), after=_shown(definition))
            return row
        raise ScheduleExists(key)

    def change(self, key: str, definition: Definition) -> StoredSchedule:
        """Replace what a schedule of operators submits, and when. Raises NotFound, OfTheCode, and as `check`."""
        check(definition)
        with self._database.transaction() as session:
            row = _find(session, key, lock=True)
            if row.source == CODE:
                raise OfTheCode(key)
            before = definition_in(row)
            _define(row, definition, clock.now())
            session.flush()
            shown = None if before is None else _shown(before)
            record(session, "schedule.change", ("schedule", key), before=shown, after=_shown(definition))
            return row

    def delete(self, key: str) -> StoredSchedule:
        """Delete a schedule of operators; returns it as it was. Raises NotFound, OfTheCode.

        Its firings stay for 30 days: one of the same key does not fire a due time again.
        """
        with self._database.transaction() as session:
            row = _find(session, key, lock=True)
            if row.source == CODE:
                raise OfTheCode(key)
            before = definition_in(row)
            session.delete(row)
            session.flush()
            record(session, "schedule.delete", ("schedule", key), before=None if before is None else _shown(before))
            return row

    def pause(self, key: str) -> StoredSchedule:
        """Stop a schedule until it is resumed. Raises NotFound."""
        with self._database.transaction() as session:
            row = _find(session, key, lock=True)
            if row.paused_at is None:
                row.paused_at, row.paused_by = clock.now(), _caller()
                session.flush()
                record(session, "schedule.pause", ("schedule", key))
            return row

    def resume(self, key: str) -> StoredSchedule:
        """Let a schedule go on from now. What came due during the pause is not made up. Raises NotFound."""
        with self._database.transaction() as session:
            row = _find(session, key, lock=True)
            if row.paused_at is not None:
                row.paused_at = row.paused_by = row.problem = None
                if (definition := definition_in(row)) is not None:
                    _settle(row, definition, clock.now())
                session.flush()
                record(session, "schedule.resume", ("schedule", key))
            return row

    def run(self, key: str, *, beside: bool = False) -> str:
        """Submit the task of a schedule at once, beside its due times; returns the task's id.

        Its due times stay as they are. While an earlier task has not ended, its overlap policy holds: `skip` raises
        StillRunning, `replace` cancels the earlier task, `queue` waits for it. `beside`: run at once in any case.
        Raises NotFound, Unsupported, and as `TaskManager.submit`.
        """
        with self._database.reading() as session:
            row = _find(session, key)
        definition = definition_in(row)
        if definition is None:
            raise NotFound("schedule that can be read", key)
        if row.source == OPERATOR:
            check(definition)
        if beside:
            definition = definition.model_copy(update={"overlap": Overlap.ALLOW})
        if definition.overlap is Overlap.QUEUE:
            self._broker.require_engine("the overlap policy `queue`")
        while (id := self._try_to_run(row, definition)) is None:
            log.info("another task of the schedule was sent meanwhile", schedule=key)
        return id

    def _try_to_run(self, row: StoredSchedule, definition: Definition) -> str | None:
        """As `run`; None: another task was sent meanwhile, so that the policy has to decide once more."""
        earlier = self._earlier.of(row.key) if definition.overlap in (Overlap.SKIP, Overlap.REPLACE) else None
        if earlier and earlier.unfinished and definition.overlap is Overlap.SKIP:
            raise StillRunning(row.key, earlier.unfinished[0])
        if earlier:
            self._earlier.cancel(earlier)
        now = clock.now()
        firing = Firing(row, definition, now)
        with self._tasks.transaction(bounded=True) as transaction:
            session = transaction.session
            _find(session, row.key, lock=True)
            if earlier and earlier.is_outdated(session):
                return None
            queries.add_firing(
                session,
                schedule=row.key,
                due_at=now,
                outcome=queries.SENT,
                task_id=firing.id,
                decided_at=now,
                asked_by=_caller(),
            )
            submit(transaction, firing)
            replaced = {"replaced": list(earlier.unfinished)} if earlier and earlier.unfinished else {}
            record(session, "schedule.run", ("schedule", row.key), after={"task_id": firing.id, **replaced})
        return firing.id


def preview(key: str, definition: Definition) -> list[datetime]:
    """When the first ten firings of a definition would act, were it stored now. Raises as `check`."""
    check(definition)
    timing = definition.timing(key)
    return [timing.acts_at(due) for due in timing.upcoming(clock.now(), UPCOMING)]


def check(definition: Definition) -> None:
    """Refuse what a submission from outside refuses.

    Raises UnknownTaskType, NotAllowed, InternalTask, ReservedEvent, InvalidPayload, UnknownQueue.
    """
    caller = current_caller()
    names = registry.names_of(definition.task)
    if not any(map(caller.may_submit, names)):
        raise NotAllowed(caller.name, f"it needs the scope {Scope.SUBMIT} or {Scope.SUBMIT}:{names[0]}")
    spec = registry.find(definition.task)
    check_from_outside(spec, definition)
    validated(spec, definition.payload)
    if definition.queue is not None and definition.queue not in declared:
        raise UnknownQueue(definition.queue, list(declared))


def upcoming(row: StoredSchedule) -> list[datetime]:
    """When the next ten firings act; none of a schedule that is paused or cannot be read."""
    definition = definition_in(row)
    if definition is None or row.paused_at is not None or row.removed_at is not None:
        return []
    timing = definition.timing(row.key)
    return [timing.acts_at(due) for due in timing.upcoming(row.decided_until, UPCOMING)]


def _find(session: Session, key: str, *, lock: bool = False) -> StoredSchedule:
    row = queries.find(session, key, lock=lock)
    if row is None or row.removed_at is not None:
        raise NotFound("schedule", key)
    return row


def _define(row: StoredSchedule, definition: Definition, now: datetime) -> None:
    kept = definition.as_json()
    has_times = row.definition is not None and not has_other_times(row.definition, kept)  # pyright: ignore[reportUnnecessaryComparison] - of a new row
    row.definition, row.problem = kept, None
    row.changed_at, row.changed_by = now, _caller()
    if not has_times:
        _settle(row, definition, now)


def _settle(row: StoredSchedule, definition: Definition, moment: datetime) -> None:
    for column, value in settled_until(row.key, definition, moment).items():
        setattr(row, column, value)


def _caller() -> str:
    return current_caller().name[:MAX_NAME]


def _shown(definition: Definition) -> dict[str, Any]:
    """What the audit log keeps: everything but the payload, which may hold data of persons."""
    return {name: value for name, value in definition.as_json().items() if name != "payload"}
