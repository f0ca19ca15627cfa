"""The one way in: submit, status, cancel, retry, queue figures.

A task is accepted when it is in the ledger (the database) and handed to the broker. The ledger row comes
first: a crash between the two leaves a row that the steward sends, never a message that nobody knows of.
When it is delivered, in which order, and to whom again if a worker dies, is the delivery engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from laneway.engine import Durability
from laneway.platform import clock
from laneway.platform.broker import Broker, TooLate, Unsendable, time_left
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import search, task_runs, workers
from laneway.platform.db.queries import task_events as stories
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.errors import (
    BrokerUnavailable,
    DuplicateTask,
    HistoryBehind,
    InvalidPayload,
    QueueFull,
    TaskExpired,
    UnknownTask,
    UnknownTaskType,
    Unsupported,
    WrongState,
)
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.history.task_views import describe, display_state, queue_figures, queue_reason, waiting_for
from laneway.platform.logging import logger
from laneway.platform.payload import Payload
from laneway.platform.queues import Priority
from laneway.platform.queues import queues as declared
from laneway.platform.registry import TaskRef
from laneway.platform.schemas.task import (
    FINISHED,
    WAITING,
    CancelResponse,
    QueueFigures,
    TaskHandle,
    TaskState,
    TaskStatus,
)
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions, row_of, spec_of, validated
from laneway.platform.submission.group_submit import Acceptance, only_the_broker_can
from laneway.platform.submission.outbox import Outbox, SubmissionTransaction

log = logger(__name__)


class TaskManager:
    """Accepts work and answers for it."""

    def __init__(self, database: Database, broker: Broker, recorder: JournalRecorder, settings: TaskSettings) -> None:
        self._database, self._broker, self._recorder, self._settings = database, broker, recorder, settings
        self.outbox = Outbox(database, broker, recorder, settings)
        self._acceptance = Acceptance(database, broker)

    def transaction(self, *, bounded: bool = False) -> AbstractContextManager[SubmissionTransaction]:
        """A change in the database and the submissions that belong to it: both are committed, or neither is.

        What was submitted is sent behind the commit, or by a relay when the broker is back. `bounded`: a queue with
        MAX_QUEUE_SIZE waiting tasks refuses with QueueFull, and nothing is changed.
        """
        return self.outbox.transaction(bounded=bounded)

    def submit(
        self,
        task: TaskRef,
        payload: Payload | dict[str, Any],
        *,
        options: SubmitOptions | None = None,
        id: str | None = None,
        priority: Priority | None = None,
        delay: float = 0,
    ) -> TaskHandle:
        """Accept one task, as `options` says; the other arguments are short for the most common several.

        A broker that is away gets it later: until then its state is `accepted`. That cannot be done for a uniqueness or
        a durability that only the broker can give: there BrokerUnavailable is raised.
        Raises UnknownTask, InvalidPayload, Conflict (same id, other payload), DuplicateTask, QueueFull, HistoryBehind,
        Unsupported: nothing is queued. NotDurable: it is accepted, a repeat with its id asks again.
        """
        spec, options = spec_of(task), options or SubmitOptions(id=id, priority=priority, delay=delay)
        values = row_of(spec, validated(spec, payload), options, self._settings)
        accepted = self._acceptance.accept(values, options)
        run = accepted.run
        if isinstance(run, TaskHandle):
            if options.durability is not Durability.MEMORY:
                self._confirm(run.task_id, options.durability)
            return run.model_copy(update={"state": TaskState(self.current(run.task_id).state)})
        state = self._sent(run, options, accepted.refused)
        log.info("task accepted", task=run.name, task_id=run.id, queue=run.queue, state=state)
        return TaskHandle(task_id=run.id, state=state, created=True)

    def status(self, id: str) -> TaskStatus:
        """What is known of a task, as of now. Raises UnknownTask, or TaskExpired when it ended too long ago."""
        run = self.current(id)
        if run.finished_at and run.finished_at < clock.now() - timedelta(hours=self._settings.status_expiry_hours):
            raise TaskExpired(id, self._settings.status_expiry_hours)
        with self._database.reading() as session:
            serving = workers.serving(session, now=clock.now()).get(run.queue, 0)
        return describe(run, waiting_for=self._waiting_for(run, serving=serving))

    def current(self, id: str) -> TaskRun:
        """The row of a task, brought up to date if it is not over. Raises UnknownTask."""
        with self._database.reading() as session:
            run = task_runs.find(session, id)
        if run is not None and run.state in FINISHED:
            return run
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return _found(session, id)

    def cancel(self, id: str) -> CancelResponse:
        """Stop a task: a waiting one never runs; a running one is asked to stop, and interrupted after a time of grace.

        Raises UnknownTask, WrongState when it is over already, BrokerUnavailable.
        """
        run = self.current(id)
        if run.state in FINISHED:
            raise WrongState(id, run.state, "cancelled")
        self._note(id, "cancel requested")
        at_home = run.state == TaskState.ACCEPTED and self._cancel_row(id, TaskState.ACCEPTED)
        if not at_home and not self._broker.cancel(run.queue, id):
            self._cancel_row(id)  # not in the engine: the row alone says that it waits or runs
        state = TaskState(self.current(id).state)
        if state in FINISHED and state is not TaskState.CANCELLED:
            raise WrongState(id, state, "cancelled")
        log.info("cancel requested", task_id=id, state=state)
        return CancelResponse(task_id=id, status=state, cancelled=state is TaskState.CANCELLED)

    def retry(self, id: str) -> TaskHandle:
        """Run a finished task again, as a new attempt of the same record. Raises UnknownTask, WrongState."""
        self.current(id)
        with self._database.transaction() as session:
            run = _found(session, id, lock=True)
            if run.state not in FINISHED:
                raise WrongState(id, run.state, "retried")
            still_valid(run)
            stories.add_event(session, id, "retried by hand", at=clock.now(), was=run.state)
            task_runs.restart(run, sent_at=None)
        self._send_anew(run)
        log.info("task retried by hand", task_id=id, task=run.name)
        return TaskHandle(task_id=id, state=display_state(run), created=True)

    def send(self, run: TaskRun) -> bool:
        """Hand a waiting task to the broker (again), unless somebody else just did. Raises as `Broker.publish`."""
        now = clock.now()
        with self._database.transaction() as session:
            mine = task_runs.publish_again(session, run, now=now)
        if mine:
            run.published_at = now
            try:
                self._broker.publish(run, delay=time_left(run))
            except Unsendable as error:
                self.outbox.bury(run, error)
        return mine

    def send_or_later(self, run: TaskRun, *, delay: float = 0) -> None:
        """Hand a task to the broker; if that fails now, the steward does it."""
        try:
            self._broker.publish(run, delay=delay)
        except Unsendable as error:
            self.outbox.bury(run, error)
        except (BrokerUnavailable, QueueFull, HistoryBehind, DuplicateTask) as error:
            log.warning("not sent now, the steward will", task_id=run.id, error=str(error))

    def cancel_lost(self, session: Session, run: TaskRun) -> bool:
        """End a task as cancelled that was asked to stop and that the broker does not have any more."""
        mine = task_runs.cancel_lost(session, run, now=clock.now())
        if mine:
            submit_on_failure(session, [_found(session, run.id)], self._settings)
        return mine

    def _cancel_row(self, id: str, *states: TaskState) -> bool:
        """End a task that waits, in one of these states if any are given; else ask it to stop."""
        with self._database.transaction() as session:
            ended = task_runs.end_waiting(session, id, *states, state=TaskState.CANCELLED, now=clock.now())
            if ended:
                submit_on_failure(session, [_found(session, id)], self._settings)
            elif not states:
                task_runs.request_cancel(session, id)
        return ended

    def _note(self, id: str, kind: str, **data: Any) -> None:
        with self._database.transaction() as session:
            _found(session, id, lock=True)  # the story grows in one order: who followed it misses nothing
            stories.add_event(session, id, kind, at=clock.now(), **data)

    def queues(self) -> dict[str, QueueFigures]:
        """Per queue: active, pending, scheduled, dead, and live workers."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            counts = task_runs.count_by_queue(session, now=clock.now())
            serving = workers.serving(session, now=clock.now())
        names = [*declared, *sorted({queue for queue, _ in counts} - set(declared))]
        return {name: queue_figures(name, counts, serving) for name in names}

    def live_workers(self) -> int:
        """How many workers reported lately."""
        with self._database.reading() as session:
            return len(workers.alive(session, now=clock.now()))

    def active(self, limit: int = 100) -> list[TaskStatus]:
        """What is being worked on now, newest first."""
        return self._listed([TaskState.PROCESSING], limit=limit)

    def dead(self, *, states: Sequence[TaskState] = (TaskState.DEAD_LETTER,), limit: int = 100) -> list[TaskStatus]:
        """Dead letters, newest first."""
        return self._listed(states, limit=limit)

    def details(self, id: str) -> TaskRun:
        """The whole ledger row, payload and traceback included. Raises UnknownTask."""
        return self.current(id)

    def search(
        self, which: Filter, *, before: int | None = None, limit: int = 50
    ) -> tuple[list[TaskStatus], int | None]:
        """Tasks, newest first, and where the next page begins."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            page = search.page(session, which, before=before, limit=limit)
        return [describe(run) for run in page], page[-1].seq if len(page) == limit else None

    def counts(self) -> dict[TaskState, int]:
        """State → how many tasks, in the whole history."""
        with self._database.reading() as session:
            return search.counts_by_state(session, Filter())

    def delete(self, id: str) -> None:
        """Forget a task that is over; a waiting one is cancelled first. Raises UnknownTask, WrongState."""
        run = self.current(id)
        if run.state in WAITING:
            self.cancel(id)
        with self._database.transaction() as session:
            run = _found(session, id, lock=True)
            if run.state not in FINISHED:
                raise WrongState(id, run.state, "deleted before it is over")
            session.delete(run)
        self._broker.discard(run.queue, run.id)

    def flush(self, queue: str) -> int:
        """Cancel everything that waits in a queue; gives back how many. Without the engine: Unsupported."""
        number = self._broker.purge(queue)
        self._recorder.catch_up_quietly()
        log.warning("queue flushed", queue=queue, tasks=number)
        return number

    def runs(self, ids: Sequence[str]) -> list[TaskStatus]:
        """Those of these tasks that are known, in the order of submission."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return [describe(run) for run in task_runs.recent(session, ids)]

    def _listed(self, states: Sequence[TaskState], *, limit: int) -> list[TaskStatus]:
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return [describe(run) for run in task_runs.by_state(session, states, limit=limit)]

    def _sent(self, run: TaskRun, options: SubmitOptions, refused: Exception | None) -> TaskState:
        """What becomes of one that is accepted: the broker has it, or it is kept for later, or struck out."""
        if run.published_at is None:  # earlier ones of its key are not with the broker yet
            if only_the_broker_can(options) and self._withdraw(run):
                raise BrokerUnavailable("earlier tasks of its ordering key are not with it yet")
            self.outbox.bell.set()
            return TaskState.ACCEPTED
        try:
            self._tried(run, options, refused)
        except BrokerUnavailable as error:
            if only_the_broker_can(options):
                if self._withdraw(run):
                    raise
            else:
                log.warning("accepted, and not sent yet", task_id=run.id, error=str(error))
                return self._park(run)
        except (QueueFull, HistoryBehind, DuplicateTask, Unsendable, Unsupported) as error:
            if self._withdraw(run):
                if isinstance(error, Unsupported):  # found out when the message was there already
                    self._broker.cancel(run.queue, run.id)
                raise
        return TaskState(run.state)

    def _tried(self, run: TaskRun, options: SubmitOptions, refused: Exception | None) -> None:
        """Raise why it was refused; what came too late is tried once more, unless somebody else has sent it since."""
        if not isinstance(refused, TooLate):
            if refused is not None:
                raise refused
            return
        now = clock.now()
        with self._database.transaction() as session:
            mine = task_runs.publish_again(session, run, now=now)
        if mine:
            run.published_at = now
            self._broker.publish(run, delay=time_left(run), durability=options.durability)

    def _park(self, run: TaskRun) -> TaskState:
        try:
            parked = self.outbox.park(run)
        except QueueFull:
            if self._withdraw(run):
                raise
            parked = False
        return TaskState.ACCEPTED if parked else TaskState(run.state)

    def _withdraw(self, run: TaskRun) -> bool:
        with self._database.transaction() as session:
            return task_runs.withdraw(session, run)

    def _confirm(self, id: str, durability: Durability) -> None:
        """Ask the broker again for what it did not confirm; it knows the message. A started task has had it."""
        run = self.current(id)
        if run.state == TaskState.ACCEPTED:
            raise BrokerUnavailable("it is accepted, and not with the broker yet")
        if run.state in WAITING and not run.attempts:
            run.published_at = clock.now()
            self._broker.publish(run, delay=time_left(run), durability=durability)

    def _send_anew(self, run: TaskRun) -> None:
        """Send a restarted task, once its buried message is gone; if that fails now, the steward does it."""
        try:
            self._broker.forget_result(run.id)
            self._broker.discard(run.queue, run.id)
            self.send(run)
        except (BrokerUnavailable, QueueFull, HistoryBehind, DuplicateTask) as error:
            log.warning("not sent now, the steward will", task_id=run.id, error=str(error))

    def _waiting_for(self, run: TaskRun, *, serving: int) -> str | None:
        if run.state not in WAITING:
            return None
        try:
            found, stats = self._broker.find(run.queue, [run.id]), self._broker.stats([run.queue])
        except BrokerUnavailable:
            return "the broker, which cannot be reached"
        if run.state == TaskState.ACCEPTED:
            return "being sent to the broker"
        return waiting_for(
            run,
            serving=serving,
            now=clock.now(),
            reason=queue_reason(found[0]) if found else None,
            stats=stats[0] if stats else None,
        )


def still_valid(run: TaskRun) -> None:
    """Refuse a row whose payload has been blanked since, or that the task of today would not take."""
    try:
        validated(spec_of(run.name), run.payload)
    except (InvalidPayload, UnknownTask, UnknownTaskType) as error:
        raise WrongState(run.id, f"{run.state} and its payload is no longer kept or valid", "retried") from error


def _found(session: Session, id: str, *, lock: bool = False) -> TaskRun:
    run = task_runs.find(session, id, lock=lock)
    if run is None:
        raise UnknownTask(id)
    return run
