"""The outbox: stores accepted tasks that the broker does not have yet, and sends them.

The outbox consists of the rows of tasks in the state `accepted`. A submission that belongs to a change in the database
is committed with that change. A task that the broker could not take stays in the outbox until a relay sends it.

A sender claims a row before it sends it (`published_at`). A claim ends after `CLAIM`. Before that, the engine stops
taking messages under the claim (`not_after`), so only one of two senders succeeds. A sender may die after the broker
took a message and before the row says so. The queue's journal then has an entry of the message, and the relay reads
the journal of a queue before it sends anything to that queue. Only one sender at a time sends the tasks of an ordering
key, in order.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread

from laneway.platform import clock
from laneway.platform.batches.settling import BatchSettling
from laneway.platform.broker import Broker
from laneway.platform.cancellation import Cancellation
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import outbox as queries
from laneway.platform.db.queries import task_events, task_runs
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import QUEUE_REFUSALS, PlatformError, QueueFull, TooLate, Unsendable
from laneway.platform.execution.on_failure import submit_on_failure
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.put_conditions import seconds_until_due
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.admission import Admission
from laneway.platform.submission.keyed_tasks import KeyedTasks
from laneway.platform.submission.transaction import SubmissionTransaction, begin
from laneway.schemas.task import TaskState

log = logger(__name__)

CLAIM = timedelta(seconds=8)
"""How long the claim on a row lasts. The engine takes the message for a shorter time (`broker.PUBLISH_WITHIN`)."""
PAGE = 200
"""Most rows that the relay claims at once."""
PAGE_BYTES = 4_194_304
"""Bytes of payloads after which the relay claims no further row at once."""
WAIT_SECONDS = 4.0
"""Most seconds that the relay waits for a database that another program holds."""
POLL = 1.0
"""Seconds between two runs of the relay when nobody wakes it."""


class Outbox:
    """Sends accepted tasks."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        recorder: JournalRecorder,
        settings: TaskSettings,
        *,
        admission: Admission | None = None,
    ) -> None:
        self._database, self._broker, self._recorder, self._settings = database, broker, recorder, settings
        self.admission = admission or Admission(broker)
        self.cancellation = Cancellation(database, broker, recorder, settings)
        self.keyed = KeyedTasks(database, broker, self.cancellation)
        self.batches = BatchSettling(database, settings)
        self._wakeup = Event()

    @contextmanager
    def transaction(self, *, bounded: bool = False) -> Generator[SubmissionTransaction]:
        """Commit the changes and submissions of this block together, then send the tasks.

        `bounded`: raise QueueFull for submissions beyond MAX_QUEUE_SIZE.
        """
        with self._database.transaction() as session:
            transaction = SubmissionTransaction(session, self._settings, bounded=bounded, admission=self.admission)
            begin(session, transaction)
            yield transaction
        self.keyed.stop_superseded_by(transaction.superseding)
        states = self._send([run for run in transaction.runs if run.published_at is not None], set())
        if len(states) < len(transaction.runs):
            self.wake_relay()
        transaction.handles = [
            handle.model_copy(update={"state": states.get(handle.task_id, handle.state)})
            for handle in transaction.handles
        ]
        for run in transaction.runs:
            state = states.get(run.id, TaskState.ACCEPTED)
            log.info("task accepted", task=run.name, task_id=run.id, queue=run.queue, state=state)

    def send_stored(self, runs: Sequence[TaskRun]) -> None:
        """Send unclaimed rows. A row that is not there, or not yet, is left to the relay.

        Raises DatabaseUnavailable.
        """
        with limit_waits(WAIT_SECONDS):
            with self._database.reading() as session:  # takes no lock, which the caller's outer transaction may hold
                stored = queries.in_outbox(session, [run.id for run in runs])
            runs = [run for run in runs if run.id in stored]
            now = clock.now()
            if runs:
                with self._database.transaction() as session:
                    claimed = queries.claim_again(session, runs, now=now)
                runs = [run for run in runs if run.id in claimed]
        for run in runs:
            run.published_at = now
        if len(self._send(runs, set())) < len(stored):
            self.wake_relay()

    def send_claimed(self, runs: Sequence[TaskRun]) -> None:
        """Send rows that their transaction has claimed. Those that the broker does not take now, the relay sends."""
        if len(self._send(runs, set())) < len(runs):
            self.wake_relay()

    def park(self, run: TaskRun) -> bool:
        """Keep a task that the broker did not take; False when the journal already shows that the broker has it.

        Raises QueueFull when the outbox holds MAX_QUEUE_SIZE tasks of its queue.
        """
        with self._database.transaction() as session:
            if queries.count(session, run.queue) >= self._settings.max_queue_size:
                raise QueueFull(run.queue, self._settings.max_queue_size)
            parked = queries.park(session, run)
        self.wake_relay()
        return parked

    def relay(self) -> int:
        """Send the tasks that no sender has claimed; returns their number. Safe in many processes at once.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        self.batches.settle()
        self.keyed.advance()
        total, full = 0, set[str]()
        while queues := self._queues_with_free_rows() - full:
            # The time is taken first, so that the journals contain all messages that were sent under older claims.
            abandoned_before = clock.now() - CLAIM
            self._recorder.catch_up(sorted(queues))  # marks the tasks as sent whose senders could not do so
            self._recorder.find_replaced_copies()  # takes rows out that a later copy of the database may have sent
            with self._database.transaction() as session:
                runs = queries.claim(
                    session,
                    now=clock.now(),
                    abandoned_before=abandoned_before,
                    limit=PAGE,
                    most_bytes=PAGE_BYTES,
                    queues=queues,
                )
            sent = len(self._send(runs, full))
            total += sent
            if not sent and not full.intersection(run.queue for run in runs):
                break  # the broker cannot be reached, or other relays were faster
        return total

    def bury(self, run: TaskRun, error: Unsendable) -> None:
        """Make a dead letter of a task that can never be sent, so that it does not block other tasks."""
        with self._database.transaction() as session:
            if task_runs.end_waiting(session, run.id, state=TaskState.DEAD_LETTER, now=clock.now()):
                session.flush()
                ended = task_runs.find(session, run.id)
                assert ended is not None  # noqa: S101 - this transaction has just ended it
                ended.error, ended.error_type = str(error), type(error).__name__
                task_events.add_event(session, run.id, "bury", at=clock.now(), state=ended.state, reason=error.reason)
                submit_on_failure(session, [ended], self._settings)
        log.error("task cannot be sent", task_id=run.id, task=run.name, error=str(error))

    def wake_relay(self) -> None:
        """Make the relay of this process run at once."""
        self._wakeup.set()

    def wait_for_wakeup(self, seconds: float) -> None:
        """Return when the relay is woken, or after this time."""
        if self._wakeup.wait(seconds):
            self._wakeup.clear()

    def _queues_with_free_rows(self) -> set[str]:
        with self._database.reading() as session:
            return queries.queues_with_free_rows(session, abandoned_before=clock.now() - CLAIM)

    def _send(self, runs: Sequence[TaskRun], full: set[str]) -> dict[str, TaskState]:
        """Send claimed rows, in order, and release those that were refused; returns id → state of those that were sent.

        Queues that take no more tasks now are added to `full`.
        """
        if not runs:
            return {}
        refusals = dict(zip((run.id for run in runs), self._publish(runs), strict=True))
        sent = [run for run in runs if refusals[run.id] is None]
        refused = [run for run in runs if refusals[run.id] is not None]
        full.update(run.queue for run in refused if isinstance(refusals[run.id], QUEUE_REFUSALS))
        if refused:
            first = refusals[refused[0].id]
            log.warning("tasks accepted but not published yet", tasks=len(refused), error=str(first))
        self._note_sent(sent, refused)
        for run in refused:
            error = refusals[run.id]
            if isinstance(error, Unsendable):
                self.bury(run, error)
        return {run.id: _sent_state(run) for run in sent}

    def _publish(self, runs: Sequence[TaskRun]) -> list[PlatformError | None]:
        """Publish claimed rows; return the refusal of each, or None.

        A row whose claim had expired at the broker (TooLate) is claimed again and published once more, unless another
        sender has claimed it since.
        """
        refusals = self._broker.publish_many(runs)
        late = [run for run, refusal in zip(runs, refusals, strict=True) if isinstance(refusal, TooLate)]
        if not late:
            return refusals
        now = clock.now()
        try:
            with self._database.transaction() as session:
                claimed = queries.claim_again(session, late, now=now)
        except PlatformError:  # it is not known whether the claims were committed; the relay sends the rows later
            return refusals
        again = [run for run in late if run.id in claimed]
        for run in again:
            run.published_at = now
        retried = dict(zip((run.id for run in again), self._broker.publish_many(again), strict=True))
        return [retried.get(run.id, refusal) for run, refusal in zip(runs, refusals, strict=True)]

    def _note_sent(self, sent: Sequence[TaskRun], refused: Sequence[TaskRun]) -> None:
        ids = [run.id for run in sent]
        try:
            with self._database.transaction() as session:
                moved = queries.mark_sent(session, ids, now=clock.now()) if ids else []
                queries.release(session, refused)
                dropped = queries.cancelled_or_deleted(session, moved) if moved else set[str]()
        except PlatformError as error:
            log.warning("tasks sent but not marked as sent; the journals have them", tasks=len(sent), error=str(error))
            return
        for run in sent:
            if run.id in dropped:
                self.cancellation.withdraw(run)


class Relay(Thread):
    """Sends the tasks of the outbox when it is woken and every `POLL` seconds.

    It is for processes without the maintenance of a worker.
    """

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(name="laneway-relay", daemon=True)
        self._outbox, self._ended = outbox, False

    def run(self) -> None:
        while not self._ended:
            self._outbox.wait_for_wakeup(POLL)
            try:
                with limit_waits(WAIT_SECONDS):
                    self._outbox.relay()
            except PlatformError as error:
                log.debug("relay failed and tries again", error=str(error))
            except Exception:
                log.exception("relay failed unexpectedly")

    def stop(self) -> None:
        """End the thread."""
        self._ended = True
        self._outbox.wake_relay()
        self.join(timeout=5)


def _sent_state(run: TaskRun) -> TaskState:
    return TaskState.SCHEDULED if seconds_until_due(run) > 0 else TaskState.PENDING
