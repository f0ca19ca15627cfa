"""Applies the events of a journal to the history. No other code does that.

`JournalProjection` applies a batch of events to the rows of their tasks, in order, inside the caller's transaction. An
event that was recorded before changes nothing: attempts have numbers, and a state only changes in the direction of the
life cycle (docs/lifecycle.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from laneway.engine import AckAction, Event, EventKind, Stored
from laneway.platform.db.models import TaskAttempt, TaskRun
from laneway.platform.db.queries import task_events as repository
from laneway.platform.db.queries import task_runs, workers
from laneway.platform.errors import WorkerLost
from laneway.platform.execution.outcomes import ERROR_LIMIT, GROUP_CHARACTERS, TRACEBACK_LIMIT, AttemptResult
from laneway.platform.flow.chunk import chunk_of_note
from laneway.platform.history.adoption import is_storable_id, run_from_message
from laneway.platform.history.event_counter import EventCounter
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.sealing import Sealer
from laneway.schemas.task import FINISHED, TaskState
from laneway.transport.signatures import NO_SIGNATURES, Signer

log = logger(__name__)

FindMessage = Callable[[str], Stored | None]
EventData = dict[str, Any]
"""The data of an event of a task, beside its kind, time and attempt."""
_MESSAGE_STAYS: Final = frozenset({EventKind.START, EventKind.FINISH, EventKind.LOST, EventKind.CANCEL_REQUESTED})
"""Events after which the queue has the message of the task."""
UNDELIVERABLE: Final = "Undeliverable"
"""The `error_type` of a task whose message became a dead letter."""


def record(
    session: Session,
    queue: str,
    events: Sequence[Event],
    *,
    find: FindMessage | None = None,
    signer: Signer = NO_SIGNATURES,
    sealer: Sealer | None = None,
    counter: EventCounter | None = None,
) -> list[TaskRun]:
    """Record a batch; returns the tasks that ended. `counter`: counts what was recorded.

    `find` returns the message of a task that has no row: the event that carried it was lost, or recorded elsewhere, or
    it carries the message without its body. `signer` and `sealer`: as for `run_from_message`.

    If the batch fails, each event is recorded separately. An event that fails then is logged and left out, so that it
    does not block the others. Raises OperationalError or InterfaceError when the database cannot be reached.
    """
    try:
        with session.begin_nested():
            projection = JournalProjection(session, queue, find=find, signer=signer, sealer=sealer)
            ended = projection.apply(events)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        if len(events) <= 1:
            log.exception("event not recorded", queue=queue, events=[(event.task_id, event.kind) for event in events])
            return []
        options: Any = {"find": find, "signer": signer, "sealer": sealer, "counter": counter}
        return [run for event in events for run in record(session, queue, [event], **options)]
    if counter is not None:
        counter.extend(projection.counter)
    return ended


class JournalProjection:
    """Applies one batch of events of one queue.

    There is one method per kind of event, named after what happened. It changes the row and returns the data
    of the task's event, or None when the event changes nothing and is not recorded.
    """

    def __init__(
        self,
        session: Session,
        queue: str,
        *,
        find: FindMessage | None = None,
        signer: Signer = NO_SIGNATURES,
        sealer: Sealer | None = None,
    ) -> None:
        self._session, self._queue, self._find = session, queue, find
        self._signer, self._sealer = signer, sealer
        self._runs: dict[str, TaskRun] = {}
        self._attempts: dict[str, dict[int, TaskAttempt]] = {}
        self._new_attempts: list[TaskAttempt] = []
        self._new_events: list[dict[str, Any]] = []
        self._ended: dict[str, TaskRun] = {}
        self.counter = EventCounter()

    def apply(self, events: Sequence[Event]) -> list[TaskRun]:
        """Record all events; returns the tasks that ended."""
        events = [event for event in events if self._is_readable(event)]
        ids = list(dict.fromkeys(event.task_id for event in events))
        self._runs = {run.id: run for run in repository.runs(self._session, ids)}
        for attempt in repository.attempts_of(self._session, ids):  # one query: a query per task would flush each time
            self._attempts.setdefault(attempt.task_id, {})[attempt.number] = attempt
        for event in events:
            run = self._runs.get(event.task_id) or self._adopt(event)
            if run is not None:
                self._apply_event(run, event)
        self._session.flush()  # the rows of new tasks, to which the new attempts refer
        self._session.add_all(self._new_attempts)
        self._session.flush()
        repository.add_events(self._session, self._new_events)
        return list(self._ended.values())

    def _is_readable(self, event: Event) -> bool:
        """Log an entry of the journal that cannot be read: another version, or somebody else, has written it."""
        if event.kind is EventKind.UNREADABLE:
            log.error("journal entry ignored", queue=self._queue, cursor=event.cursor, entry=event.detail)
        return event.kind is not EventKind.UNREADABLE

    def _adopt(self, event: Event) -> TaskRun | None:
        """Add the row of a task that was sent without the task manager: its first event carries its message.

        The event of a task that had a row when it was sent carries no body. If the row has been lost, the body comes
        from the broker. If the broker has it no more, the row says that the payload is not known.
        """
        stored = self._find_message(event) or event.stored
        if stored is None:
            log.warning("event ignored: its task is unknown", task_id=event.task_id, kind=event.kind)
            return None
        if not is_storable_id(event.task_id):
            log.warning("event ignored: the id of its task cannot be stored", task_id=event.task_id)
            return None
        run = run_from_message(stored, queue=self._queue, at=moment(event.at), signer=self._signer, sealer=self._sealer)
        self._session.add(run)
        self._runs[run.id] = run
        return run

    def _find_message(self, event: Event) -> Stored | None:
        """Ask the queue for the message of a task without a row, if the event does not carry it with its body."""
        if self._find is None:
            return None
        if event.stored is None:
            return self._find(event.task_id) if event.kind in _MESSAGE_STAYS else None
        message = event.stored.message
        return self._find(event.task_id) if message.body_known and not message.body else None

    def _apply_event(self, run: TaskRun, event: Event) -> None:
        number = run.attempts_before + event.attempt if event.attempt else None
        attempt, was_finished = self._attempt(run, number or 0), run.state in FINISHED
        is_open = attempt is not None and attempt.outcome is None
        data = _METHODS[event.kind](self, run, event)
        if data is None:
            return
        self.counter.note(run, event, was_finished=was_finished, ended=attempt if is_open else None)
        if run.state in FINISHED:
            self._ended[run.id] = run
        else:
            self._ended.pop(run.id, None)
        self._new_events.append(
            {"task_id": run.id, "at": moment(event.at), "kind": event.kind.value, "attempt": number, "data": data}
        )

    # --- one method per kind of event

    def put(self, run: TaskRun, event: Event) -> EventData | None:
        if event.stored is None or run.state in FINISHED or run.attempts:
            return None
        due = event.stored.message.eta_ms
        if run.state == TaskState.ACCEPTED:
            run.state, run.published_at = TaskState.PENDING, run.published_at or moment(event.at)
        if due and due > event.at:
            run.state, run.due_at = TaskState.SCHEDULED, moment(due)
        return {"queue": self._queue, "priority": event.stored.message.priority, "due": due}

    def start(self, run: TaskRun, event: Event) -> EventData | None:
        """An attempt that was recorded before changes nothing, unless it was snoozed: then its row starts again."""
        at, number = moment(event.at), run.attempts_before + event.attempt
        known = self._attempt(run, number)
        if run.state in FINISHED or (known is not None and known.outcome != "snoozed"):
            return None
        is_first = event.attempt == 1 and not run.attempts_before
        run.ready_at = run.due_at or (None if is_first else run.published_at) or run.accepted_at
        run.state, run.attempts, run.started_at = TaskState.PROCESSING, event.attempt, at
        run.worker = repository.storable(event.worker)
        run.due_at, run.progress, run.progress_message, run.finished_at = None, 0, None, None
        self._end_open_attempts(run, at)
        attempt = known or TaskAttempt(task_id=run.id, number=number)
        attempt.worker, attempt.started_at = run.worker, at
        attempt.ended_at = attempt.outcome = attempt.delay = None
        self._attempts.setdefault(run.id, {})[number] = attempt
        self._new_attempts.append(attempt)
        return {"worker": event.worker, **chunk_of_note(event.outcome)}

    def finish(self, run: TaskRun, event: Event) -> EventData | None:
        result, at = _result(event), moment(event.at)
        runs_again = result.state is TaskState.SCHEDULED
        is_current = run.state == TaskState.PROCESSING and run.attempts == event.attempt
        if run.state in FINISHED or (runs_again and not is_current):
            return None
        outcome = result.state.value
        if runs_again:
            outcome = "snoozed" if event.ack_action is AckAction.SNOOZE else "retry"
            run.published_at, run.due_at = at, at + timedelta(milliseconds=event.delay_ms)
        else:
            run.finished_at, run.due_at = at, None
        self._end_attempt(run, event, outcome=outcome, result=result)
        if not result.counted:  # the engine uses the number again; in the history every attempt has its own number
            run.attempts, run.attempts_before = run.attempts - 1, run.attempts_before + 1
        run.state, run.result = result.state, result.result
        run.error, run.error_type = result.error, result.error_type
        run.traceback, run.error_group = result.traceback, result.error_group
        if result.state is TaskState.COMPLETED:
            run.progress = 100
        return _end_data(result, outcome)

    def lost(self, run: TaskRun, event: Event) -> EventData | None:
        attempt = self._attempt(run, run.attempts_before + event.attempt)
        if run.state in FINISHED or attempt is None or attempt.outcome is not None:
            return None
        error = self._worker_lost(attempt)
        result = AttemptResult(TaskState.PENDING, error=str(error), error_type=type(error).__name__)
        self._end_attempt(run, event, outcome="lost", result=result)
        run.state, run.error, run.error_type, run.traceback = TaskState.PENDING, str(error), result.error_type, None
        run.published_at = moment(event.at)
        return {"worker": run.worker, "reason": event.reason}

    def ack(self, run: TaskRun, event: Event) -> EventData | None:
        """The message was acknowledged and the task has no outcome. That is normal only for Celery's own tasks."""
        if run.state in FINISHED:
            return None
        error = None
        if run.cancel_requested:
            state = TaskState.CANCELLED
        elif run.name not in registry and not event.attempt:
            state, run.progress_message = TaskState.COMPLETED, "acknowledged; its outcome is in Celery's results"
        else:
            state, error = TaskState.FAILED, "The message was acknowledged without a recorded outcome."
        result = AttemptResult(state, error=error, error_type="Unrecorded" if error else None)
        self._end_attempt(run, event, outcome=state.value, result=result)
        run.state, run.finished_at, run.error, run.error_type = state, moment(event.at), error, result.error_type
        run.due_at = None
        return {"state": state.value, "error": error}

    def bury(self, run: TaskRun, event: Event) -> EventData | None:
        if run.state in FINISHED:
            return None
        error = f"{event.reason}: {event.detail}" if event.detail else event.reason
        result = _storable(AttemptResult(TaskState.DEAD_LETTER, error=error, error_type=UNDELIVERABLE))
        self._end_attempt(run, event, outcome=TaskState.DEAD_LETTER.value, result=result)
        run.state, run.finished_at = TaskState.DEAD_LETTER, moment(event.at)
        run.error, run.error_type = repository.storable(error), UNDELIVERABLE
        run.due_at, run.traceback = None, None
        run.error_group = repository.error_group(UNDELIVERABLE, event.reason)
        message = event.stored.message if event.stored else None
        run.raw = None if message is None or message.body_known else message.body  # the row has it as the payload
        return {"state": run.state, "reason": event.reason, "detail": event.detail}

    def cancel(self, run: TaskRun, event: Event) -> EventData | None:
        if run.state in FINISHED:
            return None
        self._end_attempt(run, event, outcome=TaskState.CANCELLED.value, result=AttemptResult(TaskState.CANCELLED))
        run.state, run.finished_at, run.due_at = TaskState.CANCELLED, moment(event.at), None
        return {"state": run.state}

    def cancel_requested(self, run: TaskRun, event: Event) -> EventData | None:
        """A running task was asked to stop."""
        del event
        if run.state in FINISHED or run.cancel_requested:
            return None
        run.cancel_requested = True
        return {}

    def purge(self, run: TaskRun, event: Event) -> EventData | None:
        data = self.cancel(run, event)
        if data is not None:
            run.error = "The queue was purged."
        return data

    def requeue(self, run: TaskRun, event: Event) -> EventData | None:
        """The engine delivers one of its dead letters again."""
        at = moment(event.at)
        if run.state not in FINISHED or (run.finished_at is not None and at < run.finished_at):
            return None
        task_runs.restart(self._session, run, sent_at=at)
        return {}

    def progress(self, run: TaskRun, event: Event) -> EventData | None:
        """The event's outcome is the JSON object that the task reported."""
        data = repository.parse_object(event.outcome)
        if run.state == TaskState.PROCESSING and event.attempt == run.attempts:
            percent, message = data.get("percent"), data.get("message")
            run.progress = max(0, min(100, int(percent))) if isinstance(percent, int | float) else run.progress
            run.progress_message = repository.storable(str(message)) if message is not None else None
        return data

    def report(self, run: TaskRun, event: Event) -> EventData | None:
        """The event's outcome is a log line, or a group of chunks of the output, as a JSON object."""
        del run
        return repository.parse_object(event.outcome)

    def dead_letter_removed(self, run: TaskRun, event: Event) -> EventData | None:
        """The engine does not have the dead letter any more. The row of the task does not change."""
        del run, event
        return {}

    # --- attempts

    def _attempt(self, run: TaskRun, number: int) -> TaskAttempt | None:
        return self._attempts.get(run.id, {}).get(number)

    def _end_open_attempts(self, run: TaskRun, at: datetime) -> None:
        """End earlier attempts without an outcome as lost: the broker has lost the events of their end."""
        for attempt in self._attempts.get(run.id, {}).values():
            if attempt.outcome is None:
                error = self._worker_lost(attempt)
                attempt.ended_at, attempt.outcome = at, "lost"
                attempt.error, attempt.error_type = str(error), type(error).__name__

    def _worker_lost(self, attempt: TaskAttempt) -> WorkerLost:
        worker = attempt.worker or "?"
        return WorkerLost(worker, worker_ended=workers.how_ended(self._session, worker, since=attempt.started_at))

    def _end_attempt(self, run: TaskRun, event: Event, *, outcome: str, result: AttemptResult) -> None:
        attempt = self._attempt(run, run.attempts_before + event.attempt)
        if attempt is None or attempt.outcome is not None:
            return
        attempt.ended_at, attempt.outcome = moment(event.at), outcome
        attempt.error, attempt.error_type, attempt.traceback = result.error, result.error_type, result.traceback
        attempt.delay = result.delay if result.state is TaskState.SCHEDULED else None


_METHODS: dict[EventKind, Callable[[JournalProjection, TaskRun, Event], EventData | None]] = {
    EventKind.PUT: JournalProjection.put,
    EventKind.START: JournalProjection.start,
    EventKind.FINISH: JournalProjection.finish,
    EventKind.LOST: JournalProjection.lost,
    EventKind.ACK: JournalProjection.ack,
    EventKind.BURY: JournalProjection.bury,
    EventKind.CANCEL: JournalProjection.cancel,
    EventKind.CANCEL_REQUESTED: JournalProjection.cancel_requested,
    EventKind.PURGE: JournalProjection.purge,
    EventKind.REQUEUE: JournalProjection.requeue,
    EventKind.DISCARD: JournalProjection.dead_letter_removed,
    EventKind.TRIM: JournalProjection.dead_letter_removed,
    EventKind.PROGRESS: JournalProjection.progress,
    EventKind.LOG: JournalProjection.report,
    EventKind.OUTPUT: JournalProjection.report,
}


def moment(milliseconds: int) -> datetime:
    """Convert a time of the server, in milliseconds since 1970, to a datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _end_data(result: AttemptResult, outcome: str) -> EventData:
    data = {
        "state": result.state.value,
        "outcome": outcome,
        "error": result.error,
        "error_type": result.error_type,
        "delay": result.delay or None,
        "how": result.how,
    }
    return {name: value for name, value in data.items() if value is not None}


def _result(event: Event) -> AttemptResult:
    """Return the result that the worker stored. If it cannot be read, the result is a failure that says so."""
    try:
        return _storable(AttemptResult.from_json(event.outcome))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"The recorded outcome cannot be read: {error}"
        return _storable(AttemptResult(TaskState.FAILED, error=text, error_type="Unreadable"))


def _storable(result: AttemptResult) -> AttemptResult:
    """Return the result with texts that every database accepts, cut to the size of their columns."""

    def text(value: object, limit: int) -> str | None:
        return None if value is None else repository.storable(str(value))[:limit]

    return replace(
        result,
        error=text(result.error, ERROR_LIMIT),
        error_type=text(result.error_type, 200),
        error_group=text(result.error_group, GROUP_CHARACTERS),
        traceback=text(result.traceback, TRACEBACK_LIMIT),
    )
