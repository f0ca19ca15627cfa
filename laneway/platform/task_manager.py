"""The task manager: the one facade over tasks for the API, the command line and services.

It 1. accepts tasks (`Submitter`, `Outbox`), 2. reads them (`TaskReader`), and 3. changes them (`TaskControl`). The
delivery engine decides when, in which order and to which worker a task is delivered, also after a worker has died.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from laneway.platform import tracing
from laneway.platform.access.quotas import Quotas
from laneway.platform.broker import Broker
from laneway.platform.bulk_cancel import BulkCancel
from laneway.platform.bulk_priority import BulkPriority
from laneway.platform.bulk_replay import BulkReplay
from laneway.platform.bulk_retry import BulkRetry
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.queues import Priority
from laneway.platform.registry import TaskRef
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions, spec_of
from laneway.platform.submission.admission import Admission
from laneway.platform.submission.outbox import Outbox
from laneway.platform.submission.submit_call import SubmitCall
from laneway.platform.submission.submitter import Submitter
from laneway.platform.submission.transaction import Submission, SubmissionTransaction
from laneway.platform.submission.user_session import UserSessions
from laneway.platform.task_control import TaskControl
from laneway.platform.task_reader import TaskReader
from laneway.platform.task_signals import TaskSignals
from laneway.platform.waking import Waker
from laneway.schemas.payload import Payload
from laneway.schemas.task import CancelResponse, QueueFigures, TaskDetails, TaskHandle, TaskState, TaskStatus
from laneway.schemas.task_signal import TaskSignalResponse
from laneway.schemas.waiting import WhyResponse
from laneway.schemas.worker import WorkerView


class TaskManager:
    """Accepts, reads and changes tasks."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        recorder: JournalRecorder,
        settings: TaskSettings,
        *,
        quotas: Quotas | None = None,
    ) -> None:
        """`quotas`: None for no quotas."""
        admission = Admission(broker, quotas, store=settings.payload_store)
        self._database, self._broker, self._recorder, self._settings = database, broker, recorder, settings
        self.outbox = Outbox(database, broker, recorder, settings, admission=admission)
        self._reader = TaskReader(database, broker, recorder, settings)
        self._submitter = Submitter(database, broker, recorder, self.outbox, self._reader, settings)
        self._user_sessions = UserSessions(database, self.outbox, settings)
        self.waker = Waker(database, broker, recorder, settings)
        self._signals = TaskSignals(self.outbox, self._reader, settings)
        self._control = TaskControl(database, broker, recorder, self.outbox, self._reader, settings)

    # --- accepting

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
        """Accept one task. `id`, `priority` and `delay` are short for the same fields of `options`.

        While the broker cannot be reached, the task is stored in the state `accepted` and sent later. Uniqueness and
        durability need the broker now: with them BrokerUnavailable is raised instead.
        Raises UnknownTaskType, InvalidPayload, UnknownQueue, Conflict (same id, other payload), DuplicateTask,
        QueueFull, HistoryBehind, Unsupported: nothing is stored or queued. Raises NotDurable: the task is accepted,
        and a repeat with its id asks for the durability again. Raises TypeError for `options` beside a short argument.
        """
        if options is None:
            options = SubmitOptions(id=id, priority=priority, delay=delay)
        elif id is not None or priority is not None or delay:
            raise TypeError("submit() takes either options or id, priority and delay: set them in the options.")
        if (spans := tracing.active) is not None:
            with spans.submission(spec_of(task).name):
                return self._submitter.submit(task, payload, options)
        return self._submitter.submit(task, payload, options)

    def submit_many(self, submissions: Sequence[Submission]) -> list[TaskHandle]:
        """Accept many tasks in one transaction: all or none. They support neither uniqueness nor durability.

        Raises as `submit` for the first one that cannot be accepted.
        """
        return self._submitter.submit_many(submissions)

    def submit_group(self, calls: Sequence[SubmitCall]) -> list[TaskHandle | Exception]:
        """Accept the submissions of several callers, each as `submit` does, in few transactions.

        Returns one outcome per call, in order: the handle, or what `submit` would raise. Traces are not continued.
        """
        return self._submitter.submit_group(calls)

    def submit_in(self, session: Session | Connection, submissions: Sequence[Submission]) -> list[TaskHandle]:
        """Accept tasks in a transaction of the caller's, who commits it; they are sent after the commit.

        Raises OtherDatabase, and as `SubmissionTransaction.submit` in a bounded transaction.
        """
        return self._user_sessions.submit_many(session, submissions)

    def transaction(self, *, bounded: bool = False) -> AbstractContextManager[SubmissionTransaction]:
        """A database transaction and the submissions that belong to it: both are committed, or neither is.

        The tasks are sent after the commit, or by a relay when the broker is back. `bounded`: a queue that would hold
        more than MAX_QUEUE_SIZE waiting tasks refuses with QueueFull, and nothing is changed.
        """
        return self.outbox.transaction(bounded=bounded)

    # --- reading

    def status(self, id: str) -> TaskDetails:
        """A task with its payload, as of now. Raises UnknownTask, and TaskExpired when it finished too long ago."""
        return self._reader.status(id)

    def details(self, run: TaskRun) -> TaskDetails:
        """The status of a task, however long ago it finished, and what is kept of its payload."""
        return self._reader.details(run)

    def why(self, id: str) -> WhyResponse:
        """Why a task waits, and when it will probably start and end. Raises as `status`."""
        return self._reader.why(id)

    def with_forecast(self, handle: TaskHandle) -> TaskHandle:
        """The receipt of a submission with a forecast, if there is one."""
        return handle.model_copy(update={"forecast": self._reader.why(handle.task_id).forecast})

    def current(self, id: str) -> TaskRun:
        """The whole row of a task, brought up to date if it is not finished. Raises UnknownTask."""
        return self._reader.current(id)

    def search(
        self, which: Filter, *, before: int | None = None, limit: int = 50
    ) -> tuple[list[TaskStatus], int | None]:
        """Tasks, newest first, and the `before` of the next page; None after the last page."""
        return self._reader.search(which, before=before, limit=limit)

    def scan(self, which: Filter, *, before: int | None = None, limit: int = 50) -> tuple[list[TaskStatus], int | None]:
        """As `search`, but in a bounded time for each filter: a page may have fewer tasks, and more may follow it."""
        return self._reader.scan(which, before=before, limit=limit)

    def runs(self, ids: Sequence[str]) -> list[TaskStatus]:
        """The known tasks of these ids, in the order of submission."""
        return self._reader.by_ids(ids)

    def active(self, limit: int = 100) -> list[TaskStatus]:
        """The running tasks, newest first."""
        return self._reader.by_state([TaskState.PROCESSING], limit=limit)

    def dead(self, *, states: Sequence[TaskState] = (TaskState.DEAD_LETTER,), limit: int = 100) -> list[TaskStatus]:
        """The dead letters, newest first."""
        return self._reader.by_state(states, limit=limit)

    def queues(self) -> dict[str, QueueFigures]:
        """Queue → active, accepted, pending, scheduled and dead tasks, and live workers."""
        return self._reader.queues()

    def counts(self, which: Filter | None = None) -> dict[TaskState, int]:
        """State → number of tasks in the history: all, or those that a filter selects."""
        return self._reader.counts(which or Filter())

    def live_workers(self) -> int:
        """The number of live workers: those that reported recently (`workers.ALIVE`)."""
        return self._reader.live_workers()

    def workers(self) -> list[WorkerView]:
        """The workers that have not signed off, by name: live ones, and those that are silent."""
        return self._reader.workers()

    # --- changing

    def cancel(self, id: str) -> CancelResponse:
        """Stop a task: a waiting task never runs; a running task is asked to stop, and interrupted after a grace time.

        Raises UnknownTask, BrokerUnavailable, and WrongState when the task is finished.
        """
        return self._control.cancel(id)

    def signal(self, id: str, name: str, data: dict[str, Any] | None = None, *, key: str = "") -> TaskSignalResponse:
        """Send a signal to a task that waits for it, now or later (`ctx.wait_for_signal`).

        `key` tells several signals of one name apart. Raises UnknownTask, WrongState, InvalidTaskSignal, Conflict.
        """
        return self._signals.send(id, name, data=data or {}, key=key)

    def cancel_many(
        self, runs: Iterable[TaskRun], *, action: str = "task.cancel", of: str | None = None
    ) -> tuple[int, dict[str, str]]:
        """As `cancel`, for many tasks. Returns how many, and id → reason for those that cannot.

        `action`: the name in the audit log, which has an entry for each. `of`: the bulk action that an undo finds.
        """
        bulk = BulkCancel(self._database, self._broker, self._recorder, self.outbox, self._settings)
        return bulk.cancel(runs, action=action, of=of)

    def retry_many(self, runs: Iterable[TaskRun], *, action: str = "task.retry") -> tuple[int, dict[str, str]]:
        """Run finished tasks again. Returns, and `action`, as `cancel_many`."""
        return BulkRetry(self._database, self._broker, self.outbox).retry(runs, action=action)

    def restore_many(
        self, runs: Iterable[TaskRun], before: Mapping[str, Mapping[str, Any]]
    ) -> tuple[int, dict[str, str]]:
        """Let cancelled tasks wait again that have not run. `before`: what `cancel_many` stored of each."""
        return BulkRetry(self._database, self._broker, self.outbox).restore(runs, before)

    def replay_many(self, runs: Iterable[TaskRun], *, of: str) -> tuple[dict[str, str], dict[str, str]]:
        """Submit tasks once more, as new tasks. Returns id → id of its copy, and id → reason; `of`: the bulk action."""
        return BulkReplay(self.outbox).replay(runs, of=of)

    def reprioritise_many(
        self,
        runs: Iterable[TaskRun],
        priorities: Mapping[str, int],
        *,
        action: str = "task.reprioritise",
        of: str | None = None,
    ) -> tuple[int, dict[str, str]]:
        """Give waiting tasks a new priority, by id. Returns as `cancel_many`. Raises Unsupported without the engine."""
        return BulkPriority(self._database, self._broker).change(runs, priorities, action=action, of=of)

    def retry(self, id: str) -> TaskHandle:
        """Run a finished task again, as a new attempt of the same row. Raises UnknownTask, WrongState."""
        return self._control.retry(id)

    def delete(self, id: str) -> None:
        """Delete a finished task; a waiting one is cancelled first. Raises UnknownTask, WrongState."""
        self._control.delete(id)

    def flush(self, queue: str) -> int:
        """Cancel all waiting tasks of a queue; returns their number. Raises Unsupported without the engine."""
        return self._control.flush(queue)

    def send(self, run: TaskRun) -> bool:
        """Publish a waiting task again; False when another process has just done so. Raises as `Broker.publish`."""
        return self._control.send(run)

    def send_or_later(self, run: TaskRun, *, delay: float = 0) -> None:
        """Publish a task, to be delivered `delay` seconds from now; if that fails, leave it to the maintenance."""
        self._control.send_or_later(run, delay=delay)

    def cancel_lost(self, session: Session, run: TaskRun) -> bool:
        """Cancel a task that was asked to stop and that the broker has lost; False when its row has changed since."""
        return self._control.cancel_lost(session, run)
