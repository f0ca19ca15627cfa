"""Stops a task that waits or runs, wherever it is: held in the database, in the outbox, in the broker, at a worker."""

from __future__ import annotations

from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs
from laneway.platform.db.queries.held import is_held
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, NewerQueue
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.settings import TaskSettings
from laneway.schemas.task import FINISHED, WAITING, TaskState

log = logger(__name__)


class Cancellation:
    """Stops tasks."""

    def __init__(self, database: Database, broker: Broker, recorder: JournalRecorder, settings: TaskSettings) -> None:
        self._database, self._broker, self._recorder, self._settings = database, broker, recorder, settings

    def stop(self, run: TaskRun) -> TaskState:
        """End a waiting task, or ask a running one to stop; return its state. Raises UnknownTask, BrokerUnavailable."""
        id, never_sent = run.id, run.state == TaskState.ACCEPTED or is_held(run)
        is_ended = never_sent and self._end_row(id, TaskState(run.state))
        if not is_ended and not self._broker.cancel(run):
            self._end_row(id)  # the broker has no message of it: the row says whether it waits or runs
        state = self.state(run)
        if state in WAITING and self._broker.find(run.queue, [id]) == [None] and self._end_row(id):
            state = TaskState.CANCELLED  # the queue had no journal: the broker has lost it, and nobody enabled it again
        return state

    def state(self, run: TaskRun) -> TaskState:
        """The state of a task as of now. Raises UnknownTask."""
        with self._database.reading() as session:
            state = TaskState(task_runs.get(session, run.id).state)
        if state in FINISHED:
            return state
        self._recorder.catch_up_quietly([run.queue])
        with self._database.reading() as session:
            return TaskState(task_runs.get(session, run.id).state)

    def withdraw(self, run: TaskRun) -> None:
        """Remove the message of a row that was cancelled or deleted, or refuse it if its sender has yet to put it."""
        if run.published_at is None:
            return  # no sender has claimed the row
        try:
            self._broker.cancel(run)
        except (BrokerUnavailable, NewerQueue) as error:
            log.warning("message of a cancelled task not removed now", task_id=run.id, error=str(error))

    def _end_row(self, id: str, *states: TaskState) -> bool:
        """Cancel a task in one of these states. Without `states` cancel a waiting one, or ask a running one to stop."""
        cancelled: TaskRun | None = None
        with self._database.transaction() as session:
            if task_runs.end_waiting(session, id, *states, state=TaskState.CANCELLED, now=clock.now()):
                cancelled = task_runs.get(session, id)
                submit_on_failure(session, [cancelled], self._settings)
            elif not states:
                task_runs.request_cancel(session, id)
        if cancelled is not None:
            self.withdraw(cancelled)
        return cancelled is not None
