"""Accepts one task: stores its row, publishes its message, and handles a refusal of the broker.

The row comes first: after a crash in between there is a row, which the maintenance sends, and never a message without a
row. A refused submission leaves no row, with two exceptions. If the broker cannot be reached, the row goes to the
outbox and is sent later. After NotDurable the row stays, because the message may be queued.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, ParamSpec, TypeVar

from laneway.engine import Durability
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import (
    QUEUE_REFUSALS,
    BrokerUnavailable,
    Conflict,
    DuplicateTask,
    QueueFull,
    TooLate,
    Unsendable,
    Unsupported,
)
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.put_conditions import seconds_until_due
from laneway.platform.registry import TaskRef
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import (
    Row,
    SubmitOptions,
    payload_bytes,
    row_of,
    spec_of,
    store_large,
    validated,
)
from laneway.platform.submission.group_commit import GroupCommit
from laneway.platform.submission.group_submit import Accepted, GroupSubmit
from laneway.platform.submission.key_rules import looks_at_others, rule_of
from laneway.platform.submission.outbox import Outbox
from laneway.platform.submission.submit_call import SubmitCall
from laneway.platform.submission.transaction import Submission
from laneway.platform.task_reader import TaskReader
from laneway.schemas.payload import Payload
from laneway.schemas.task import WAITING, TaskHandle, TaskState

P = ParamSpec("P")
R = TypeVar("R")
log = logger(__name__)

REFUSALS = (*QUEUE_REFUSALS, DuplicateTask, Unsendable, Unsupported)
"""Errors of the broker after which the submission is refused and its row is deleted."""


class Submitter:
    """Accepts tasks."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        recorder: JournalRecorder,
        outbox: Outbox,
        reader: TaskReader,
        settings: TaskSettings,
    ) -> None:
        self._database, self._broker, self._recorder, self._outbox = database, broker, recorder, outbox
        self._reader, self._settings = reader, settings
        self._admission = outbox.admission
        self._group_submit = GroupSubmit(database, broker)
        self._group_commit = GroupCommit[Row, Accepted](self._group_submit.submit_group)

    def submit(self, task: TaskRef, payload: Payload | dict[str, Any], options: SubmitOptions) -> TaskHandle:
        """Accept one task; see `TaskManager.submit`."""
        submission = Submission(spec_of(task), payload, options)
        row = self._admitted(submission)
        if row is None:
            return self.submit_many([submission])[0]
        try:
            accepted = self._accept(row, options)
        except Exception as error:  # noqa: BLE001 - `_conclude` raises it again
            accepted = error
        return self._conclude(row, options, accepted)

    def submit_group(self, calls: Sequence[SubmitCall]) -> list[TaskHandle | Exception]:
        """Accept the submissions of several callers; see `TaskManager.submit_group`."""
        outcomes = [_attempt(call.context, self._begin, call) for call in calls]
        begun = {index: begun for index, begun in enumerate(outcomes) if isinstance(begun, tuple)}
        rows = [row for row, _ in begun.values()]
        first = calls[next(iter(begun), 0)].context
        group = _attempt(first, self._group_submit.submit_group, rows) if rows else ()
        accepted = [group] * len(rows) if isinstance(group, Exception) else group
        ends = {
            index: _attempt(calls[index].context, self._conclude, row, options, one)
            for (index, (row, options)), one in zip(begun.items(), accepted, strict=True)
        }
        return [ends[index] if isinstance(outcome, tuple) else outcome for index, outcome in enumerate(outcomes)]

    def submit_many(self, submissions: Sequence[Submission]) -> list[TaskHandle]:
        """Accept many tasks, or tasks with a rule about their key; see `TaskManager.submit_many`."""
        specs = [(spec_of(one.task), one.options) for one in submissions]
        queues = {options.queue or spec.queue for spec, options in specs if looks_at_others(spec, options)}
        if queues:  # how far the other tasks of the key are
            self._recorder.catch_up_quietly(sorted(queues))
        with self._outbox.transaction(bounded=True) as transaction:
            transaction.submit_many(submissions)
        return transaction.handles

    def _begin(self, call: SubmitCall) -> tuple[Row, SubmitOptions] | TaskHandle:
        """The row with which a call joins its group, or the handle of a task that needs a transaction of its own."""
        submission = call.submission()
        options = submission.options
        row = None if self._is_alone(options) else self._admitted(submission)
        return (row, options) if row is not None else self.submit(submission.task, submission.payload, options)

    def _admitted(self, submission: Submission) -> Row | None:
        """The row of a submission that may come in. None: its batch, or the tasks of its key, decide about it."""
        spec, options = spec_of(submission.task), submission.options
        row = row_of(spec, validated(spec, submission.payload), options, self._settings)
        if options.batch is not None or rule_of(spec, options, row["key"]) is not None:
            return None
        self._admission.admit([row])
        store_large([row], self._settings)
        return row

    def _is_alone(self, options: SubmitOptions) -> bool:
        """Whether a submission cannot join a group."""
        return self._broker.engine is None or options.needs_broker

    def _conclude(self, row: Row, options: SubmitOptions, accepted: Accepted | Exception) -> TaskHandle:
        """The handle of a row that was stored, and sent if the broker took it. Raises what refused it."""
        if isinstance(accepted, Exception):
            if isinstance(accepted, Conflict):
                self._settings.payload_store.drop(row["payload"])
            raise accepted
        run = accepted.run
        if isinstance(run, TaskHandle):
            self._settings.payload_store.drop(row["payload"])
            return self._repeat(run, options)
        state = self._settle(run, options, accepted.refusal)
        log.info("task accepted", task=run.name, task_id=run.id, queue=run.queue, state=state)
        return TaskHandle(task_id=run.id, state=state, created=True)

    def _accept(self, row: Row, options: SubmitOptions) -> Accepted:
        """Store a row and publish its message."""
        if self._is_alone(options):
            return self._group_submit.submit_one(row, options.durability)
        return self._group_commit.run(row, size=payload_bytes(row["payload"]))

    def _repeat(self, handle: TaskHandle, options: SubmitOptions) -> TaskHandle:
        """Return the handle of a task that was submitted before, with its current state."""
        if options.durability is not Durability.MEMORY:
            self._confirm(handle.task_id, options.durability)
        return handle.model_copy(update={"state": TaskState(self._reader.current(handle.task_id).state)})

    def _confirm(self, id: str, durability: Durability) -> None:
        """Publish a waiting task again, to confirm its durability. The broker does not queue the same message twice.

        A task that has started counts as confirmed.
        """
        run = self._reader.current(id)
        if run.state == TaskState.ACCEPTED:
            raise BrokerUnavailable("the task is accepted, but the broker does not have it yet")
        if run.state in WAITING and not run.attempts:
            run.published_at = clock.now()
            self._broker.publish(run, delay=seconds_until_due(run), durability=durability)

    def _settle(self, run: TaskRun, options: SubmitOptions, refusal: Exception | None) -> TaskState:
        """Return the state of a new task: queued or left to the relay. Withdraw a refused one and raise its refusal."""
        if run.published_at is None:  # the broker does not have the earlier tasks of its key yet
            return self._leave_to_relay(run, options)
        try:
            self._publish_again_if_late(run, options, refusal)
        except BrokerUnavailable as error:
            if options.needs_broker:
                if self._withdraw(run):
                    raise
                return TaskState(run.state)
            log.warning("task accepted but not published yet", task_id=run.id, error=str(error))
            return self._park(run)
        except REFUSALS as error:
            if self._withdraw(run):
                self._settings.payload_store.drop(run.payload)
                if isinstance(error, Unsupported):  # the engine may have queued the message before it refused
                    self._broker.cancel(run)
                raise
        return TaskState(run.state)

    def _leave_to_relay(self, run: TaskRun, options: SubmitOptions) -> TaskState:
        if options.needs_broker and self._withdraw(run):
            raise BrokerUnavailable("it does not have the earlier tasks of this ordering key yet")
        self._outbox.wake_relay()
        return TaskState.ACCEPTED

    def _publish_again_if_late(self, run: TaskRun, options: SubmitOptions, refusal: Exception | None) -> None:
        """Re-raise the publish error; retry once on TooLate, unless another process has taken the row since."""
        if not isinstance(refusal, TooLate):
            if refusal is not None:
                raise refusal
            return
        now = clock.now()
        with self._database.transaction() as session:
            claimed = task_runs.publish_again(session, run, now=now)
        if claimed:
            run.published_at = now
            self._broker.publish(run, delay=seconds_until_due(run), durability=options.durability)

    def _park(self, run: TaskRun) -> TaskState:
        try:
            parked = self._outbox.park(run)
        except QueueFull:
            if self._withdraw(run):
                raise
            parked = False
        return TaskState.ACCEPTED if parked else TaskState(run.state)

    def _withdraw(self, run: TaskRun) -> bool:
        with self._database.transaction() as session:
            return task_runs.withdraw(session, run)


def _attempt(context: Context, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | Exception:
    """Call a function in a context; returns what it returns, or what it raises."""
    try:
        return context.run(function, *args, **kwargs)
    except Exception as error:  # noqa: BLE001 - the outcome of one of several calls
        return error
