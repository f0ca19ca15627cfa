"""Accepts submissions in groups: one transaction for all rows, then one call of the broker per queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from laneway.engine import Durability
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.put_conditions import seconds_until_due
from laneway.platform.submission.acceptance import Row, accept_many
from laneway.schemas.task import TaskHandle


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission whose row is stored."""

    run: TaskRun | TaskHandle
    """The new row, or the handle of the task that had the id before."""
    refusal: Exception | None = None
    """Why the broker refused the message. None: it took the message, or nothing was sent."""


class GroupSubmit:
    """Stores rows, and publishes their messages after the commit."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker

    def submit_group(self, rows: Sequence[Row]) -> Sequence[Accepted | Exception]:
        """Accept rows in one transaction; if it fails for one of them, accept each row in a transaction of its own.

        Returns one outcome per row, in order. Raises DatabaseUnavailable for all.
        """
        # Sorted by id, so that two processes that submit the same ids lock them in the same order: no deadlock.
        order = sorted(range(len(rows)), key=lambda index: rows[index]["id"])
        try:
            with self._database.transaction() as session:
                accepted = accept_many(session, [rows[index] for index in order])
        except DatabaseUnavailable:
            raise
        except Exception:
            if len(rows) == 1:
                raise
            return [self._accept_separately(row) for row in rows]
        new = [run for run in accepted if isinstance(run, TaskRun) and run.published_at is not None]
        try:
            refusals: Sequence[Exception | None] = self._broker.publish_many(new) if new else ()
        except Exception as error:  # noqa: BLE001 - one message may have caused it; the others must not fail as well
            refusals = [error] if len(new) == 1 else [self._publish(run) for run in new]
        refusal_of = dict(zip((run.id for run in new), refusals, strict=True))
        by_index = dict(zip(order, accepted, strict=True))
        return [
            Accepted(run, refusal_of.get(run.id) if isinstance(run, TaskRun) else None)
            for run in (by_index[index] for index in range(len(rows)))
        ]

    def submit_one(self, row: Row, durability: Durability) -> Accepted:
        """Accept one row and publish it alone, for a broker without group calls, or with uniqueness or durability."""
        with self._database.transaction() as session:
            run = accept_many(session, [row])[0]
        if isinstance(run, TaskHandle) or run.published_at is None:
            return Accepted(run)
        return Accepted(run, self._publish(run, durability))

    def _accept_separately(self, row: Row) -> Accepted | Exception:
        try:
            return self.submit_group([row])[0]
        except Exception as error:  # noqa: BLE001 - raised in the call of its submitter
            return error

    def _publish(self, run: TaskRun, durability: Durability = Durability.MEMORY) -> Exception | None:
        try:
            self._broker.publish(run, delay=seconds_until_due(run), durability=durability)
        except Exception as error:  # noqa: BLE001 - raised in the call of its submitter
            return error
        return None
