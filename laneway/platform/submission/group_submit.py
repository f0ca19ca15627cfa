"""A submission's way into the database and to the broker; what several threads submit goes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laneway.engine import Durability
from laneway.platform.broker import Broker, time_left
from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.schemas.task import TaskHandle
from laneway.platform.submission.acceptance import SubmitOptions, accept, accept_many
from laneway.platform.submission.group_commit import GroupCommit

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that is written down, or was before."""

    run: TaskRun | TaskHandle
    refused: Exception | None = None
    """Why the broker did not take it. None also when it was not to be given to it now."""


class Acceptance:
    """Writes rows down, and gives them to the broker behind the commit."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker
        self._gathering = GroupCommit[Row, Accepted](self._accept_each)

    def accept(self, values: Row, options: SubmitOptions) -> Accepted:
        """Raises Conflict, UnknownTask, DatabaseUnavailable: nothing is accepted."""
        if self._broker.engine is not None and not only_the_broker_can(options):
            return self._gathering.do(values)
        with self._database.transaction() as session:
            run = accept(session, values)
        return Accepted(run, self._refusal(run, options.durability) if _is_to_be_sent(run) else None)

    def _accept_each(self, rows: Sequence[Row]) -> Sequence[Accepted | Exception]:
        """In one transaction; if it fails for one of them, each in its own."""
        # by id: of two groups that have the same ids, in two processes, neither waits for the other's second one
        places = sorted(range(len(rows)), key=lambda place: rows[place]["id"])
        try:
            with self._database.transaction() as session:
                accepted = accept_many(session, [rows[place] for place in places])
        except DatabaseUnavailable:
            raise
        except Exception:
            if len(rows) == 1:
                raise
            return [self._alone(row) for row in rows]
        fresh = [run for run in accepted if isinstance(run, TaskRun) and _is_to_be_sent(run)]
        refused = dict(zip((run.id for run in fresh), self._refusals(fresh), strict=True))
        told = dict(zip(places, accepted, strict=True))
        return [
            Accepted(run, refused.get(run.id) if isinstance(run, TaskRun) else None)
            for run in (told[place] for place in range(len(rows)))
        ]

    def _alone(self, row: Row) -> Accepted | Exception:
        try:
            return self._accept_each([row])[0]
        except Exception as error:  # noqa: BLE001 - its submitter gets it
            return error

    def _refusals(self, runs: Sequence[TaskRun]) -> Sequence[Exception | None]:
        try:
            return self._broker.publish_many(runs)
        except Exception as error:  # noqa: BLE001 - of one of them; the others must not suffer from it
            return [error] if len(runs) == 1 else [self._refusal(run) for run in runs]

    def _refusal(self, run: TaskRun | TaskHandle, durability: Durability = Durability.MEMORY) -> Exception | None:
        assert isinstance(run, TaskRun)  # noqa: S101  a handle is not sent
        try:
            self._broker.publish(run, delay=time_left(run), durability=durability)
        except Exception as error:  # noqa: BLE001 - its submitter gets it
            return error
        return None


def only_the_broker_can(options: SubmitOptions) -> bool:
    """Whether a submission wants what nobody can give it later."""
    return options.durability is not Durability.MEMORY or options.unique is not None


def _is_to_be_sent(run: TaskRun | TaskHandle) -> bool:
    return isinstance(run, TaskRun) and run.published_at is not None
