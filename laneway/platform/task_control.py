"""Changes tasks that exist: cancel, retry, delete, send again, flush a queue."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.audit_log.recording import record, recorded_as
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_events, task_runs
from laneway.platform.db.queries.deletions import note_deletion
from laneway.platform.db.session import Database
from laneway.platform.errors import (
    QUEUE_REFUSALS,
    BrokerUnavailable,
    DuplicateTask,
    InvalidPayload,
    UnknownTaskType,
    Unsendable,
    WrongState,
)
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.history.adoption import PAYLOAD_UNKNOWN, fingerprint, is_not_signed
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.history.task_views import display_state
from laneway.platform.logging import logger
from laneway.platform.put_conditions import seconds_until_due
from laneway.platform.sealing import opened_payload
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import spec_of, validated
from laneway.platform.submission.outbox import Outbox
from laneway.platform.task_reader import TaskReader
from laneway.schemas.task import FINISHED, WAITING, CancelResponse, TaskHandle, TaskState

log = logger(__name__)

SENT_LATER = (BrokerUnavailable, *QUEUE_REFUSALS, DuplicateTask)
"""Errors of the broker after which the maintenance sends the task later."""


class TaskControl:
    """Cancels, retries, deletes and resends tasks."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        recorder: JournalRecorder,
        outbox: Outbox,
        reader: TaskReader,
        settings: TaskSettings,
    ) -> None:
        self._database, self._broker, self._recorder = database, broker, recorder
        self._outbox, self._reader, self._settings = outbox, reader, settings

    def cancel(self, id: str) -> CancelResponse:
        """Stop a task; see `TaskManager.cancel`."""
        run = self._reader.current(id)
        if run.state in FINISHED:
            raise WrongState(id, run.state, "cancelled")
        self._note_cancel(run)
        state = self._outbox.cancellation.stop(run)
        if state in FINISHED and state is not TaskState.CANCELLED:
            raise WrongState(id, state, "cancelled")
        log.info("cancel requested", task_id=id, state=state)
        return CancelResponse(task_id=id, status=state, cancelled=state is TaskState.CANCELLED)

    def retry(self, id: str) -> TaskHandle:
        """Run a finished task again; see `TaskManager.retry`."""
        self._reader.current(id)
        with self._database.transaction() as session:
            run = task_runs.get(session, id, lock=True)
            if run.state not in FINISHED:
                raise WrongState(id, run.state, "retried")
            check_payload(run)
            task_events.add_event(session, id, "retried by hand", at=clock.now(), was=run.state)
            record(session, "task.retry", ("task", id), before=described(run))
            task_runs.restart(session, run, sent_at=None)
        self._send_restarted(run)
        log.info("task retried by hand", task_id=id, task=run.name)
        return TaskHandle(task_id=id, state=display_state(run), created=True)

    def delete(self, id: str) -> None:
        """Delete a task; see `TaskManager.delete`."""
        run = self._reader.current(id)
        if run.state in WAITING:
            with recorded_as("task.delete"):
                self.cancel(id)
        with self._database.transaction() as session:
            run = task_runs.get(session, id, lock=True)
            if run.state not in FINISHED:
                raise WrongState(id, run.state, "deleted before it is over")
            note_deletion(session, TaskRun.id == id)
            session.delete(run)
            session.flush()
            record(session, "task.delete", ("task", id), before=described(run))
        self._broker.discard(run.queue, [run.id])

    def flush(self, queue: str) -> int:
        """Cancel the waiting tasks of a queue; see `TaskManager.flush`."""
        self._broker.require_engine("emptying a queue")
        waiting = [stats.waiting for stats in self._broker.stats([queue]) or ()]
        with self._database.transaction() as session:
            record(session, "queue.flush", ("queue", queue), before={"waiting": sum(waiting)})
        number = self._broker.purge(queue)
        self._recorder.catch_up_quietly([queue])
        log.warning("queue flushed", queue=queue, tasks=number)
        return number

    def send(self, run: TaskRun) -> bool:
        """Publish a waiting task again; False when another process has just done so. Raises as `Broker.publish`."""
        now = clock.now()
        with self._database.transaction() as session:
            claimed = task_runs.publish_again(session, run, now=now)
        if claimed:
            run.published_at = now
            try:
                self._broker.publish(run, delay=seconds_until_due(run))
            except Unsendable as error:
                self._outbox.bury(run, error)
        return claimed

    def send_or_later(self, run: TaskRun, *, delay: float = 0) -> None:
        """Publish a task; if that fails now, leave it to the maintenance."""
        try:
            self._broker.publish(run, delay=delay)
        except Unsendable as error:
            self._outbox.bury(run, error)
        except SENT_LATER as error:
            log.warning("task not sent now; the maintenance sends it later", task_id=run.id, error=str(error))

    def cancel_lost(self, session: Session, run: TaskRun) -> bool:
        """Cancel a task that was asked to stop and that the broker has lost."""
        ended = task_runs.cancel_lost(session, run, now=clock.now())
        if ended:
            submit_on_failure(session, [task_runs.get(session, run.id)], self._settings)
        return ended

    def _note_cancel(self, run: TaskRun) -> None:
        with self._database.transaction() as session:
            # The lock makes the ids of a task's events grow in the order of their commits: a follower misses none.
            task_runs.get(session, run.id, lock=True)
            task_events.add_event(session, run.id, "cancel requested", at=clock.now())
            record(session, "task.cancel", ("task", run.id), before=described(run))

    def _send_restarted(self, run: TaskRun) -> None:
        """Delete the old result and dead letter of a restarted task and send it, or leave it to the maintenance."""
        try:
            self._broker.discard(run.queue, [run.id])
            self._broker.forget_results([run.id])
            self.send(run)
        except SENT_LATER as error:
            log.warning("task not sent now; the maintenance sends it later", task_id=run.id, error=str(error))


def described(run: TaskRun) -> dict[str, Any]:
    """What the audit log says of a task."""
    return {"name": run.name, "queue": run.queue, "state": run.state}


def check_payload(run: TaskRun) -> None:
    """Raise WrongState for a task whose payload is not known, was erased by retention, or is not valid any more."""
    check_kept(run, "retried")
    try:
        validated(spec_of(run.name), opened_payload(run.payload))
    except (InvalidPayload, UnknownTaskType) as error:
        raise WrongState(run.id, f"{run.state} and its payload is no longer kept or valid", "retried") from error


def check_kept(run: TaskRun, action: str) -> None:
    """Raise WrongState for a task whose payload is not known, was erased by retention, or is not signed by us.

    `action`: what is done with it.
    """
    if run.options.get(PAYLOAD_UNKNOWN):
        raise WrongState(run.id, f"{run.state} and its payload is not known", action)
    if is_not_signed(run):
        raise WrongState(run.id, f"{run.state} and its message is not signed by us", action)
    if not run.payload and run.fingerprint != fingerprint(run.name, {}):
        raise WrongState(run.id, f"{run.state} and its payload is no longer kept or valid", action)
