"""Settles unfinished tasks that the engine will not deliver: sends them again, or records how they ended.

A task is sent again if nothing shows that it has ended. In these cases something does:

1. The engine has a dead message of it: a dead letter, with the reason that the engine has.
2. It was asked to stop: cancelled.
3. Its result is a success that was stored since the task was sent: completed, with this result.
4. It was sent before an older copy of the database was made, and its result is an error: a dead letter.
5. The same, and there is no result: a dead letter with the error `OutcomeUnknown`, which a human looks at.

In the last two cases the task ended, or was cancelled, after the copy was made: the engine kept everything since.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any, cast

from celery import states
from sqlalchemy.orm import Session

from laneway.engine import AckAction, Event, EventKind, MessageInfo, MessageState
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs
from laneway.platform.db.queries.task_events import error_group
from laneway.platform.db.session import Database
from laneway.platform.execution.celery_results import CeleryResults, FinalResult
from laneway.platform.execution.outcomes import AttemptResult
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.task_manager import TaskManager
from laneway.schemas.task import TaskState

log = logger(__name__)

OUTCOME_UNKNOWN = "OutcomeUnknown"
"""The `error_type` of a task of which nothing says how it ended."""
_UNKNOWN = (
    "The database was restored from an older copy, and the broker does not have this task any more: it ended, or was "
    "cancelled, after the copy was made. Requeue it if it must run again, or discard it."
)


class Settled(Enum):
    """What became of a lost task."""

    SENT = "sent again"
    ENDED = "recorded as ended"
    UNCHANGED = "unchanged"
    """Another process has changed it meanwhile."""


class LostTasks:
    """Settles lost tasks, one by one. A crash half-way repeats, and never loses."""

    def __init__(
        self, database: Database, broker: Broker, recorder: JournalRecorder, tasks: TaskManager, results: CeleryResults
    ) -> None:
        self._database, self._broker, self._recorder = database, broker, recorder
        self._tasks, self._results = tasks, results

    def ends(self, runs: Sequence[TaskRun]) -> dict[str, FinalResult]:
        """The final results of these tasks (`CeleryResults.ends`). Raises ResultStoreUnavailable."""
        return self._results.ends(runs)

    def settle(
        self, run: TaskRun, message: MessageInfo | None, end: FinalResult | None, *, gap_until: datetime | None
    ) -> Settled:
        """Settle a task. `gap_until`: the database lacks the events before this time.

        Raises BrokerUnavailable, DatabaseUnavailable, ResultStoreUnavailable, QueueFull, HistoryBehind, DuplicateTask.
        """
        if run.cancel_requested and (end is None or end.state != states.SUCCESS):
            with self._database.transaction() as session:
                return Settled.ENDED if self._tasks.cancel_lost(session, run) else Settled.UNCHANGED
        event = _missing_event(run, self._with_body(run, message), end, gap_until)
        if event is not None:
            return self._record(run, event)
        if message is not None:
            self._broker.discard(run.queue, [run.id])  # a message with the id of its dead letter would be refused
        if end is not None:
            self._results.forget(run.id)  # it is not the end of the task
        if not self._tasks.send(run):
            return Settled.UNCHANGED
        log.warning("task sent again: the broker did not have it", task_id=run.id, task=run.name, was=run.state)
        return Settled.SENT

    def _with_body(self, run: TaskRun, message: MessageInfo | None) -> MessageInfo | None:
        """The dead message with its body, which the dead letter keeps if the row does not have it as the payload."""
        if message is None or message.stored.message.body_known or run.published_at is None:
            return message
        found = (self._broker.find(run.queue, [run.id], bodies=True) or [None])[0]
        return message if found is None else found

    def _record(self, run: TaskRun, event: Event) -> Settled:
        with self._database.transaction() as session:
            if not _is_unchanged(session, run):
                return Settled.UNCHANGED
            self._recorder.record_missing(session, run.queue, [event])
        log.warning(
            "end of a task recorded that the history had missed", task_id=run.id, task=run.name, kind=event.kind
        )
        return Settled.ENDED


def _missing_event(
    run: TaskRun, message: MessageInfo | None, end: FinalResult | None, gap_until: datetime | None
) -> Event | None:
    """The event that the history has missed; None: the task has not ended."""
    if message is not None and message.state is MessageState.DEAD:
        return None if run.published_at is None else dead_letter_event(message)
    if end is not None and end.state == states.SUCCESS:
        result = cast("dict[str, Any]", end.value) if isinstance(end.value, dict) else None
        return _end_event(run, AttemptResult(TaskState.COMPLETED, result=result), at=end.at)
    if gap_until is None or run.published_at is None or run.published_at > gap_until:
        return None
    if end is None:
        unknown = AttemptResult(
            TaskState.DEAD_LETTER,
            error=_UNKNOWN,
            error_type=OUTCOME_UNKNOWN,
            error_group=error_group(OUTCOME_UNKNOWN),
        )
        return _end_event(run, unknown, at=None)
    if end.state == states.REVOKED:
        return _end_event(run, AttemptResult(TaskState.CANCELLED), at=end.at)
    kind = end.error_type or "Unrecorded"
    failed = AttemptResult(TaskState.DEAD_LETTER, error=end.error, error_type=kind, error_group=error_group(kind))
    return _end_event(run, failed, at=end.at)


def dead_letter_event(message: MessageInfo) -> Event:
    """The event of a message that the engine has buried."""
    info, at = message.dead_info, message.at or 0
    return Event(
        cursor=f"{at}-0",
        kind=EventKind.BURY,
        task_id=message.stored.message.task_id,
        message_id=message.stored.id,
        attempt=message.attempts,
        reason=info.reason if info else "",
        detail=info.error if info else "",
        stored=message.stored,
    )


def _end_event(run: TaskRun, result: AttemptResult, *, at: datetime | None) -> Event:
    moment = round((at or clock.now()).timestamp() * 1000)
    return Event(
        cursor=f"{moment}-0",
        kind=EventKind.FINISH,
        task_id=run.id,
        message_id=run.id,
        attempt=run.attempts,
        ack_action=AckAction.DONE,
        outcome=result.to_json(),
    )


def _is_unchanged(session: Session, run: TaskRun) -> bool:
    found = task_runs.find(session, run.id, lock=True)
    if found is None:
        return False
    now, before = ((row.state, row.attempts, row.published_at) for row in (found, run))
    return now == before
