"""Says which schedules were due and were not sent. Nothing else would notice that.

A schedule that is paused or removed is left out.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final, NamedTuple

from celery import Celery

from laneway.platform import clock
from laneway.platform.db.models import StoredSchedule
from laneway.platform.db.queries import fleet_leases
from laneway.platform.db.queries import schedules as queries
from laneway.platform.db.session import Database

GRACE: Final = timedelta(minutes=2)
"""A schedule that was due longer ago than this, and was not sent, stands still."""
ALIVE: Final = timedelta(seconds=60)
"""A Beat that renewed its lease longer ago than this does not run. Its clock may differ from ours."""
BEAT: Final = "Beat"


class Standstill(NamedTuple):
    """What stands still: `Beat` as a whole, or one schedule; and why, for people to read."""

    subject: str
    reason: str
    is_refused: bool = False
    """Whether Beat tried to send, and could not."""


class ScheduleWatch:
    """Looks at the schedules of one Celery app, and at those of operators."""

    def __init__(self, app: Celery, database: Database) -> None:
        self._app, self._database = app, database

    def beat_runs(self) -> bool:
        """Whether a Beat leads. Raises DatabaseUnavailable."""
        with self._database.reading() as session:
            renewed_at = fleet_leases.renewed_at(session, queries.LEASE)
        return renewed_at is not None and abs(clock.now() - renewed_at) <= ALIVE

    def count(self) -> int:
        """The number of schedules that are in force, or will be when a Beat runs. Raises DatabaseUnavailable."""
        with self._database.reading() as session:
            return len({row.key for row in queries.active(session)} | self._unstored(queries.all_schedules(session)))

    def standstills(self) -> list[Standstill]:
        """Return what stands still now. Raises DatabaseUnavailable."""
        beat_runs = self.beat_runs()
        with self._database.reading() as session:
            stored, active = queries.all_schedules(session), queries.active(session)
        found = [problem for row in active if (problem := _standstill(row))]
        if not beat_runs:  # one that runs stores what the code lists within seconds
            found += [Standstill(key, "it was never sent") for key in sorted(self._unstored(stored))]
        if not beat_runs and found:
            names = ", ".join(item.subject for item in found)
            return [Standstill(BEAT, f"no Beat runs, and these schedules were due and not sent: {names}")]
        return found

    def _unstored(self, rows: Collection[StoredSchedule]) -> set[str]:
        declared: dict[str, Any] = self._app.conf.beat_schedule or {}
        return declared.keys() - {row.key for row in rows if row.removed_at is None}


def _standstill(row: StoredSchedule) -> Standstill | None:
    if row.problem:
        reason = f"the schedule {row.key!r} was due and not sent: {row.problem.rstrip('.')}"
        return Standstill(row.key, reason, is_refused=True)
    late = timedelta(0) if row.next_at is None else clock.now() - row.next_at
    if late <= GRACE:
        return None
    reason = f"the schedule {row.key!r} has been due for {late.total_seconds() / 60:.0f} minutes and was not sent"
    return Standstill(row.key, reason)
