"""The tasks that a schedule has sent before: the policies of overlap look at those that have not ended."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from laneway.platform.db.queries import schedules as queries
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import UnknownTask, WrongState
from laneway.platform.task_manager import TaskManager
from laneway.schemas.task import FINISHED


@dataclass(frozen=True, slots=True)
class Earlier:
    """The last tasks of a schedule as they were read: all of them, and those that have not ended."""

    key: str
    sent: tuple[str, ...]
    unfinished: tuple[str, ...]

    def is_outdated(self, session: Session) -> bool:
        """True when another process has sent a task of the schedule since. The caller holds the schedule's lock."""
        return tuple(queries.last_tasks(session, self.key)) != self.sent


class EarlierTasks:
    """Reads and cancels them."""

    def __init__(self, database: Database, tasks: TaskManager) -> None:
        self._database, self._tasks = database, tasks

    def of(self, key: str) -> Earlier:
        """The last tasks of a schedule. Raises BrokerUnavailable."""
        with self._database.reading() as session:
            sent = tuple(queries.last_tasks(session, key))
            open_ids = [run.id for run in task_runs.by_ids(session, sent) if run.state not in FINISHED]
        return Earlier(key, sent, tuple(id for id in open_ids if self._tasks.current(id).state not in FINISHED))

    def cancel(self, earlier: Earlier) -> None:
        """Cancel those that have not ended."""
        for id in earlier.unfinished:
            try:
                self._tasks.cancel(id)
            except (WrongState, UnknownTask):  # it has just ended
                continue
