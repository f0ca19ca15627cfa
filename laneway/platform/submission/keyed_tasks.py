"""What is left to do for tasks whose submissions share a key: start those that are due, stop those that are replaced.

Both are rows, which are committed with the submissions that made them. So a crash loses none, and every relay may do
them: releasing a task and stopping one twice does what doing it once does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from laneway.engine import MessageState
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.cancellation import Cancellation
from laneway.platform.db.models import SupersededTask, TaskRun
from laneway.platform.db.queries import held, submissions, task_events, task_runs
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import BrokerUnavailable, DatabaseUnavailable, PlatformError
from laneway.platform.logging import logger
from laneway.schemas.task import FINISHED, TaskState

log = logger(__name__)

PAGE: Final = 200
"""Tasks that are released in one transaction, and most tasks that are stopped in one run."""
WAIT_SECONDS: Final = 4.0
"""A submitter waits at most so long for a database that another program holds."""


class KeyedTasks:
    """Releases held tasks, and stops superseded ones."""

    def __init__(self, database: Database, broker: Broker, cancellation: Cancellation) -> None:
        self._database, self._broker, self._cancellation = database, broker, cancellation

    def advance(self) -> None:
        """Do all that is left to do. Raises BrokerUnavailable, DatabaseUnavailable."""
        with self._database.reading() as session:
            is_due, superseded = held.any_due(session, clock.now()), submissions.superseded(session, limit=PAGE)
        while is_due:
            with self._database.transaction() as session:
                is_due = held.release(session, clock.now(), limit=PAGE) == PAGE
        for task in superseded:
            self._stop(task)

    def stop_superseded_by(self, ids: Sequence[str]) -> None:
        """Stop the tasks that these new tasks replace. What cannot be stopped now is left to a relay."""
        if not ids:
            return
        try:
            with limit_waits(WAIT_SECONDS):
                with self._database.reading() as session:
                    superseded = submissions.superseded(session, by=ids, limit=PAGE)
                for task in superseded:
                    self._stop(task)
        except PlatformError as error:
            log.warning("replaced tasks not stopped yet", error=str(error))

    def _stop(self, task: SupersededTask) -> None:
        """Stop one task, then forget it. A task that cannot be stopped now is tried again by the next run."""
        try:
            is_stopped = self._stop_run(task)
        except (BrokerUnavailable, DatabaseUnavailable):
            raise
        except PlatformError as error:
            log.warning("replaced task not stopped yet", task_id=task.task_id, error=str(error))
            return
        with self._database.transaction() as session:
            submissions.forget_superseded(session, task.task_id)
            # The lock makes the ids of a task's events grow in the order of their commits: a follower misses none.
            if is_stopped and task_runs.find(session, task.task_id, lock=True) is not None:
                task_events.add_event(session, task.task_id, "superseded", at=clock.now(), by=task.by)

    def _stop_run(self, task: SupersededTask) -> bool:
        """Stop a task; False: it is over, or goes on because it has started."""
        with self._database.reading() as session:
            run = task_runs.find(session, task.task_id)
        if run is None or self._cancellation.state(run) in FINISHED or (task.only_waiting and self._has_started(run)):
            return False
        state = self._cancellation.stop(run)
        log.info("task replaced by a later one of its key", task_id=run.id, task=run.name, state=state)
        return True

    def _has_started(self, run: TaskRun) -> bool:
        found = self._broker.find(run.queue, [run.id])
        if found and found[0] is not None:
            return found[0].state is MessageState.LEASED
        return self._cancellation.state(run) is TaskState.PROCESSING
