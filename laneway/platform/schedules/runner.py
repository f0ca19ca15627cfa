"""Fires what is due, in the one process of the fleet that leads.

The leader holds a lease in the database. When it dies, another process takes over within `LEASE_SECONDS` and a tick.
Both may act for a moment: a firing is stored once (`firing.py`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from socket import gethostname
from time import monotonic
from typing import Any, Final

from celery import Celery
from pydantic import ValidationError

from laneway.platform import clock
from laneway.platform.access.quota_errors import BrokerMemoryFull
from laneway.platform.broker import Broker
from laneway.platform.db.models import StoredSchedule
from laneway.platform.db.queries import schedules as queries
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import BrokerUnavailable, DatabaseUnavailable, PlatformError
from laneway.platform.logging import logger
from laneway.platform.operations.fleet_lease import FleetLease
from laneway.platform.schedules.definition import Definition
from laneway.platform.schedules.firing import CODE, MISSED, REFUSED, Firing, Firings
from laneway.platform.schedules.keeping import Entries, keep
from laneway.platform.schedules.missed import decide
from laneway.platform.task_manager import TaskManager

log = logger(__name__)

LEASE_SECONDS: Final = 10.0
"""A leader that did not renew its lease for this long is dead."""
KEEP_EVERY: Final = 10.0
"""Seconds between two comparisons of the code's schedules with the database."""
BUDGET: Final = 3.0
"""Seconds after which the leader renews its lease, however much is due."""
WAIT_SECONDS: Final = 5.0
"""Most seconds that a step waits for a database that another program holds."""
PAGE: Final = 200
DAMAGED: Final = timedelta(minutes=1)
"""Time between two looks at a schedule that cannot be read."""


class ScheduleRunner:
    """Fires what is due while this process leads. Only one thread uses it."""

    def __init__(self, app: Celery, database: Database, broker: Broker, tasks: TaskManager) -> None:
        self._app, self._database, self._broker = app, database, broker
        self._firings = Firings(app, database, broker, tasks)
        self._lease = FleetLease(database, queries.LEASE, worker=f"beat@{gethostname()}", seconds=LEASE_SECONDS)
        self._keep_at = 0.0
        self._said_that_it_waits = False
        self.leads = False

    def run(self) -> float | None:
        """Fire what is due; returns the seconds until the next firing. None: nothing is due, or another one leads.

        Raises DatabaseUnavailable, BrokerUnavailable, BrokerMemoryFull: it is tried again, and nothing is lost.
        """
        with limit_waits(WAIT_SECONDS):
            if not self._hold():
                self._check_broker()
                return None
            if monotonic() >= self._keep_at:
                keep(self._database, self._entries)
                self._keep_at = monotonic() + KEEP_EVERY
            self._check_broker()
            return self._fire_due()

    def close(self) -> None:
        """Give the lead to another process. Raises DatabaseUnavailable."""
        self.leads = False
        with limit_waits(WAIT_SECONDS):
            self._lease.release()

    @property
    def _entries(self) -> Entries:
        return self._app.conf.beat_schedule or {}

    def _check_broker(self) -> None:
        """Raise BrokerUnavailable unless the broker takes messages."""
        engine = self._broker.engine
        if engine is None:
            return self._broker.ping()
        with self._broker.guarded():
            return engine.check()

    def _hold(self) -> bool:
        led, self.leads = self.leads, self._lease.hold()
        if self.leads and not led:
            self._keep_at = 0.0
            log.info("This Beat leads and sends the schedules.")
        if not self.leads and not self._said_that_it_waits:
            log.info("Another Beat sends the schedules; this one waits for its lease.")
        self._said_that_it_waits = not self.leads
        return self.leads

    def _fire_due(self) -> float | None:
        end = monotonic() + BUDGET
        with self._database.reading() as session:
            rows = queries.due(session, clock.now(), limit=PAGE)
        for row in rows:
            self._act(row)
            if monotonic() >= end:
                return 0.0
        with self._database.reading() as session:
            next_at = queries.next_at(session)
        return None if next_at is None else max(0.0, (next_at - clock.now()).total_seconds())

    def _act(self, row: StoredSchedule) -> None:
        """Fire what is due of one schedule. What is wrong with it is stored, and stops no other one."""
        now = clock.now()
        try:
            definition = Definition.model_validate(row.definition)
            timing = definition.timing(row.key)
            decision = decide(timing, definition, decided_until=row.decided_until, now=now)
        except ValidationError as error:
            self._put_aside(row, f"its definition cannot be read: {error.error_count()} problems", now)
            return
        if decision.missed is not None:
            reason = f"no scheduler acted in time, and the policy is `{definition.missed}`"
            self._firings.settle(Firing(row, definition, decision.missed), MISSED, reason)
        elif not decision.fire:
            following = timing.next(row.decided_until)
            self._set_next(row, None if following is None else timing.acts_at(following))
        for due in decision.fire:
            self._fire(Firing(row, definition, due, self._entry(row)))

    def _entry(self, row: StoredSchedule) -> dict[str, Any] | None:
        return self._entries.get(row.key) if row.source == CODE else None

    def _fire(self, firing: Firing) -> None:
        try:
            self._firings.fire(firing)
        except (DatabaseUnavailable, BrokerUnavailable, BrokerMemoryFull):
            raise
        except PlatformError as error:  # its task is gone, or its queue is full: the next firing does its work
            self._firings.settle(firing, REFUSED, f"{type(error).__name__}: {error}")
        except Exception as error:
            log.exception(f"Due task {firing.row.key} not sent")
            self._firings.settle(firing, REFUSED, f"{type(error).__name__}: {error}")

    def _put_aside(self, row: StoredSchedule, problem: str, now: datetime) -> None:
        log.error(f"The schedule {row.key} is not sent: {problem}")
        self._set_next(row, now + DAMAGED, problem=problem)

    def _set_next(self, row: StoredSchedule, next_at: datetime | None, *, problem: str | None = None) -> None:
        with self._database.transaction() as session:
            found = queries.find(session, row.key, lock=True)
            if found is not None and found.decided_until == row.decided_until:
                found.next_at = next_at
                found.problem = problem or found.problem
