"""What is accepted and not yet with the broker, and how it gets there.

The rows of tasks in the state `accepted` are the outbox: a submission that belongs to a change in the database is one
transaction with it, and what a broker that is away did not take stays there. Whoever sends a row claims it first
(`published_at`); a claim ends after `CLAIM`, and before that the engine takes no message of it any more (`not_after`),
so of two senders one sends. What was sent by somebody who died before noting it is known from the queue's journal,
which is read before anything is sent again. Tasks of one ordering key are sent by one sender at a time, in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, Thread
from typing import Any

from sqlalchemy.orm import Session

from laneway.engine import Durability
from laneway.platform import clock
from laneway.platform.broker import Broker, TooLate, Unsendable, time_left
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import outbox as repository
from laneway.platform.db.queries import task_events as stories
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, HistoryBehind, PlatformError, QueueFull, Unsupported
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.payload import Payload
from laneway.platform.registry import TaskRef
from laneway.platform.schemas.task import TaskHandle, TaskState
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions, accept_many, row_of, spec_of, validated

log = logger(__name__)

CLAIM = timedelta(seconds=8)
"""How long a row is its sender's; longer than the engine takes a message of it (`broker.PUBLISH_WITHIN`)."""
PAGE = 200
POLL = 1.0
"""Seconds between looks of the relay, when nobody wakes it."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One of many: what `TaskManager.submit` is called with."""

    task: TaskRef
    payload: Payload | dict[str, Any]
    options: SubmitOptions


class SubmissionTransaction:
    """One transaction: changes in the database, and submissions that belong to them."""

    def __init__(self, session: Session, settings: TaskSettings, *, bounded: bool) -> None:
        self.session, self._settings, self._bounded = session, settings, bounded
        self.handles: list[TaskHandle] = []
        """What was submitted, with its state: behind the block, as it then is."""
        self.runs: list[TaskRun] = []

    def submit(
        self, task: TaskRef, payload: Payload | dict[str, Any], *, options: SubmitOptions | None = None
    ) -> TaskHandle:
        """Accept one task with this transaction: it is sent when that is committed, and never if it is rolled back.

        Raises UnknownTask, InvalidPayload, Conflict (same id, other payload), QueueFull (in a bounded transaction),
        and Unsupported for uniqueness and durability, which only the broker can give.
        """
        return self.submit_many([Submission(task, payload, options or SubmitOptions())])[0]

    def submit_many(self, submissions: Sequence[Submission]) -> list[TaskHandle]:
        """Accept many, all or none; raises as `submit` for the first that cannot be."""
        rows = [self._row(one) for one in submissions]
        if self._bounded:
            self._find_room(Counter(row["queue"] for row in rows))
        handles: list[TaskHandle] = []
        for accepted in accept_many(self.session, rows):
            if isinstance(accepted, TaskHandle):
                handles.append(accepted)
            else:
                handles.append(TaskHandle(task_id=accepted.id, state=TaskState.ACCEPTED, created=True))
                self.runs.append(accepted)
        self.handles += handles
        return handles

    def _row(self, one: Submission) -> dict[str, Any]:
        spec, options = spec_of(one.task), one.options
        if options.unique is not None or options.durability is not Durability.MEMORY:
            raise Unsupported("uniqueness or durability", "a submission that is sent after its transaction")
        return row_of(spec, validated(spec, one.payload), options, self._settings) | {"state": TaskState.ACCEPTED}

    def _find_room(self, wanted: Counter[str]) -> None:
        for queue, number in wanted.items():
            if repository.count_waiting(self.session, queue) + number > self._settings.max_queue_size:
                raise QueueFull(queue, self._settings.max_queue_size)


class Outbox:
    """Sends what is accepted."""

    def __init__(self, database: Database, broker: Broker, recorder: JournalRecorder, settings: TaskSettings) -> None:
        self._database, self._broker, self._recorder, self._settings = database, broker, recorder, settings
        self.bell = Event()
        """Rung when something is left for the relay."""

    @contextmanager
    def transaction(self, *, bounded: bool = False) -> Generator[SubmissionTransaction]:
        """A transaction with submissions: committed, then sent. `bounded`: MAX_QUEUE_SIZE holds for them."""
        with self._database.transaction() as session:
            unit = SubmissionTransaction(session, self._settings, bounded=bounded)
            yield unit
        mine = [run for run in unit.runs if run.published_at is not None]
        states = self._sent(mine)
        if len(states) < len(unit.runs):
            self.bell.set()
        unit.handles = [
            handle.model_copy(update={"state": states.get(handle.task_id, handle.state)}) for handle in unit.handles
        ]
        for run in unit.runs:
            state = states.get(run.id, TaskState.ACCEPTED)
            log.info("task accepted", task=run.name, task_id=run.id, queue=run.queue, state=state)

    def park(self, run: TaskRun) -> bool:
        """Keep a task that the broker could not be given; False when it is known already that it has it.

        Raises QueueFull, and strikes the task out, when too many of its queue are kept.
        """
        with self._database.transaction() as session:
            if repository.count(session, run.queue) >= self._settings.max_queue_size:
                raise QueueFull(run.queue, self._settings.max_queue_size)
            parked = repository.park(session, run)
        self.bell.set()
        return parked

    def relay(self) -> int:
        """Send what nobody sends; gives back how many. Safe in many processes at once.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        sent, full = 0, set[str]()
        while self._is_waiting(full):
            over = clock.now() - CLAIM  # before the journals are read: what a claim of then allowed is in them
            self._recorder.catch_up()  # what was sent by somebody who could not note it is no longer waiting
            with self._database.transaction() as session:
                runs = repository.claim(session, now=clock.now(), abandoned_before=over, limit=PAGE, but=full)
            done = len(self._sent(runs, full))
            sent += done
            if not done and not full.intersection(run.queue for run in runs):
                break  # the broker is away, or others were quicker
        return sent

    def _is_waiting(self, full: set[str]) -> bool:
        with self._database.reading() as session:
            return repository.is_waiting(session, abandoned_before=clock.now() - CLAIM, but=full)

    def _sent(self, runs: Sequence[TaskRun], full: set[str] | None = None) -> dict[str, TaskState]:
        """Send claimed rows, in this order; gives back those that were, with their state, and lets go of the others.

        Queues that take no more now are put into `full`.
        """
        full = set() if full is None else full
        refusals = self._handed_over(runs)
        sent = {run.id: run for run, refused in zip(runs, refusals, strict=True) if refused is None}
        full.update(
            run.queue
            for run, refused in zip(runs, refusals, strict=True)
            if isinstance(refused, QueueFull | HistoryBehind)
        )
        if len(sent) < len(runs):
            why = next(refused for refused in refusals if refused is not None)
            log.warning("accepted, and not sent yet", tasks=len(runs) - len(sent), error=str(why))
        if runs:
            self._note(list(sent.values()), [run for run in runs if run.id not in sent])
        for run, refused in zip(runs, refusals, strict=True):
            if isinstance(refused, Unsendable):
                self.bury(run, refused)
        return {id: _state_of(run) for id, run in sent.items()}

    def _handed_over(self, runs: Sequence[TaskRun]) -> list[PlatformError | None]:
        """What refused each. A sender that was too slow for its claim tries once more with what is still its own."""
        refusals = self._broker.publish_many(runs)
        late = [run for run, refused in zip(runs, refusals, strict=True) if isinstance(refused, TooLate)]
        if not late:
            return refusals
        now = clock.now()
        try:
            with self._database.transaction() as session:
                mine = repository.claim_again(session, late, now=now)
        except PlatformError:  # perhaps not until the commit: none is known to be ours, the relay sends them
            return refusals
        late = [run for run in late if run.id in mine]
        for run in late:
            run.published_at = now
        again = dict(zip((run.id for run in late), self._broker.publish_many(late), strict=True))
        return [again.get(run.id, refused) for run, refused in zip(runs, refusals, strict=True)]

    def bury(self, run: TaskRun, why: Unsendable) -> None:
        """Make a dead letter of a task that can never be sent: it must hold up no other."""
        with self._database.transaction() as session:
            if task_runs.end_waiting(session, run.id, state=TaskState.DEAD_LETTER, now=clock.now()):
                session.flush()
                ended = task_runs.find(session, run.id)
                assert ended is not None  # noqa: S101  it was ended just now, in this transaction
                ended.error, ended.error_type = str(why), type(why).__name__
                stories.add_event(session, run.id, "bury", at=clock.now(), state=ended.state, reason=why.reason)
                submit_on_failure(session, [ended], self._settings)
        log.error("task cannot be sent", task_id=run.id, task=run.name, error=str(why))

    def _note(self, sent: Sequence[TaskRun], left: Sequence[TaskRun]) -> None:
        ids = [run.id for run in sent]
        try:
            with self._database.transaction() as session:
                moved = repository.mark_sent(session, ids, now=clock.now()) if ids else []
                repository.release(session, left)
                unwanted = repository.unwanted(session, moved) if moved else set[str]()
        except PlatformError as error:
            log.warning("sent, and not noted: the journal knows", tasks=len(sent), error=str(error))
            return
        for run in sent:
            if run.id in unwanted:
                self._take_back(run)

    def _take_back(self, run: TaskRun) -> None:
        try:
            self._broker.cancel(run.queue, run.id)
        except BrokerUnavailable as error:
            log.warning("cancelled while it was sent, and the broker has it", task_id=run.id, error=str(error))


class Relay(Thread):
    """Sends what waits in the outbox, when the bell rings and every `POLL` seconds; for processes without a steward."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(name="laneway-relay", daemon=True)
        self._outbox, self._ended = outbox, False

    def run(self) -> None:
        while not self._ended:
            self._outbox.bell.wait(POLL)
            if self._outbox.bell.is_set():
                self._outbox.bell.clear()
            try:
                self._outbox.relay()
            except PlatformError as error:
                log.debug("relay: will try again", error=str(error))
            except Exception:
                log.exception("relay: unexpected error")

    def stop(self) -> None:
        """End the thread."""
        self._ended = True
        self._outbox.bell.set()
        self.join(timeout=5)


def _state_of(run: TaskRun) -> TaskState:
    return TaskState.SCHEDULED if time_left(run) > 0 else TaskState.PENDING
