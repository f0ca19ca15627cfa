"""Submissions in one database transaction: they are committed with its changes, and sent after the commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy.orm import Session

from laneway.platform.batch_errors import BatchOver
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import batches
from laneway.platform.db.queries import outbox as queries
from laneway.platform.errors import QueueFull, Unsupported
from laneway.platform.registry import TaskRef
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import Row, accept_many, row_of, spec_of, store_large, validated
from laneway.platform.submission.admission import Admission
from laneway.platform.submission.key_rules import KeyRule, rule_of
from laneway.platform.submission.keyed import KeyedAcceptance
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskHandle, TaskState

_TRANSACTION = "laneway_transaction"
"""The key of `Session.info` with the session's `SubmissionTransaction`."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One of many submissions, with the arguments of `TaskManager.submit`."""

    task: TaskRef
    payload: Payload | dict[str, Any]
    options: SubmitOptions


@dataclass(frozen=True, slots=True)
class _Given:
    """The row of a submission, its rule, and whether its caller has chosen its id."""

    row: Row
    rule: KeyRule | None
    has_id: bool


def outbox_row(submission: Submission, settings: TaskSettings, *, sealed: bool = True) -> Row:
    """The row of a submission that is sent after the commit of its row. Raises as `SubmissionTransaction.submit`.

    `sealed`: as for `row_of`.
    """
    spec, options = spec_of(submission.task), submission.options
    if options.needs_broker:
        raise Unsupported("uniqueness or durability", "a submission that is sent after its transaction")
    row = row_of(spec, validated(spec, submission.payload), options, settings, sealed=sealed)
    return row | {"state": TaskState.ACCEPTED}


def call_here(work: Callable[[], None]) -> None:
    """Call it here and now."""
    work()


class SubmissionTransaction:
    """One database transaction, with the submissions that belong to its changes."""

    def __init__(
        self,
        session: Session,
        settings: TaskSettings,
        *,
        bounded: bool,
        claimed: bool = True,
        admission: Admission | None = None,
        wait: Callable[[Callable[[], None]], None] = call_here,
    ) -> None:
        """`claimed`: nobody but the caller sends the rows soon after the commit. `admission`: None lets all in.

        `wait`: makes the calls that wait for the broker or for the storage.
        """
        self.session, self._settings, self._bounded, self._claimed = session, settings, bounded, claimed
        self._admission, self._wait = admission, wait
        self._keyed = KeyedAcceptance(session, store=self._store, check_room=self._check_room)
        self.handles: list[TaskHandle] = []
        """The handles of all submissions. After the block they have the states of the tasks after sending."""
        self.runs: list[TaskRun] = []
        """The new rows that are to be sent."""
        self.superseding: list[str] = []
        """The ids of new tasks for which others are to be stopped after the commit."""

    def submit(
        self, task: TaskRef, payload: Payload | dict[str, Any], *, options: SubmitOptions | None = None
    ) -> TaskHandle:
        """Accept one task with this transaction: it is sent after the commit, and never after a rollback.

        Raises UnknownTaskType, InvalidPayload, InvalidOptions, Conflict (same id, other payload), QueueFull (in a
        bounded transaction), BrokerMemoryFull, QuotaExceeded, OverQuota, StorageUnavailable, NotFound and BatchOver
        for a batch, and Unsupported for uniqueness and durability, which only the broker can give.
        """
        return self.submit_many([Submission(task, payload, options or SubmitOptions())])[0]

    def submit_many(self, submissions: Sequence[Submission]) -> list[TaskHandle]:
        """Accept many tasks, all or none. Raises as `submit` for the first one that cannot be accepted."""
        if not submissions:
            return []
        given = [self._given(submission) for submission in submissions]
        if self._admission is not None:
            self._wait(partial(self._admission.admit, [one.row for one in given], inside=not self._bounded))
        plain = [one.row for one in given if one.rule is None]
        self._check_room(row["queue"] for row in plain)
        self._hold_batches([one.row for one in given if one.row["batch_id"] is not None])
        self._wait(partial(store_large, plain, self._settings))
        self._keyed.lock((one.row, one.rule) for one in given if one.rule is not None)
        handles = [handle for rule, group in groupby(given, _rule) for handle in self._accept(rule, group)]
        self.handles += handles
        return handles

    def _given(self, submission: Submission) -> _Given:
        row = outbox_row(submission, self._settings)
        if not self._claimed:
            row["published_at"] = None
        options = submission.options
        has_id = options.id is not None or options.idempotency_key is not None
        return _Given(row, rule_of(spec_of(submission.task), options, row["key"]), has_id)

    def _accept(self, rule: KeyRule | None, group: Iterable[_Given]) -> Iterator[TaskHandle]:
        """Accept submissions with an equal rule, or without one."""
        if rule is None:
            for accepted in accept_many(self.session, [one.row for one in group]):
                yield accepted if isinstance(accepted, TaskHandle) else self._added(accepted)
            return
        for one in group:
            keyed = self._keyed.accept(one.row, rule, has_id=one.has_id)
            if keyed.handle.replaced:
                self.superseding.append(keyed.handle.task_id)
            if keyed.run is not None:
                self.runs.append(keyed.run)
            yield keyed.handle

    def _added(self, run: TaskRun) -> TaskHandle:
        self.runs.append(run)
        return TaskHandle(task_id=run.id, state=TaskState.ACCEPTED, created=True)

    def _hold_batches(self, rows: Sequence[Row]) -> None:
        """Keep the batches of these rows from ending. Raises NotFound, and BatchOver unless it is a mere repeat."""
        for batch in sorted({row["batch_id"] for row in rows}):
            try:
                batches.hold_open(self.session, batch)
            except BatchOver:
                if not batches.has_all(self.session, batch, [row["id"] for row in rows if row["batch_id"] == batch]):
                    raise

    def _store(self, row: Row) -> None:
        self._wait(partial(store_large, [row], self._settings))

    def _check_room(self, queues: Iterable[str]) -> None:
        """Raise QueueFull if so many further tasks do not fit into their queues."""
        for queue, number in Counter(queues).items() if self._bounded else ():
            if queries.count_waiting(self.session, queue) + number > self._settings.max_queue_size:
                raise QueueFull(queue, self._settings.max_queue_size)


def transaction_of(session: Session) -> SubmissionTransaction | None:
    """The transaction to which this session belongs; None for a session of anybody else."""
    return session.info.get(_TRANSACTION)


def begin(session: Session, transaction: SubmissionTransaction) -> None:
    """Let `transaction_of` find the transaction of a session."""
    session.info[_TRANSACTION] = transaction


def _rule(given: _Given) -> KeyRule | None:
    return given.rule
