"""Accepts submissions that have a rule about the other tasks of their key (`key_rules.py`).

Each first locks the slot of its rule, task name and key in the database, then decides, and commits both. So of many
processes that submit the same key at once, each sees what the one before it has done.

A debounced task is held: its row is scheduled and was never sent, so that a later submission can change it in place.
`keyed_tasks.py` puts it into the outbox when it is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.models import SubmissionSlot, TaskRun
from laneway.platform.db.queries import submissions, task_events, task_runs
from laneway.platform.db.queries.held import is_held
from laneway.platform.errors import Conflict
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import Row, accept, existing, has_fingerprint
from laneway.platform.submission.key_rules import KeyRule, RuleKind
from laneway.schemas.choices import IfBusy, SubmitOutcome
from laneway.schemas.task import WAITING, TaskHandle, TaskState

log = logger(__name__)

REPLACED: Final = (
    *("payload", "fingerprint", "queue", "priority", "key", "max_retries", "options", "request_id", "expires_at"),
)
"""The columns of a held task that a further submission of its debounce key replaces, beside its tags and due time."""
MOST_STOPPED: Final = 1000
"""Tasks that one submission stops at most."""
NAMED: Final = 20
"""Stopped tasks that the receipt names."""
MOST_EVENTS: Final = 100
"""Replacements of one task of which its history has an event. The number goes on to count."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """What became of a submission: its receipt, and the new row if it is to be sent."""

    handle: TaskHandle
    run: TaskRun | None = None


class KeyedAcceptance:
    """Accepts submissions with a rule in one database transaction."""

    def __init__(
        self, session: Session, *, store: Callable[[Row], None], check_room: Callable[[Iterable[str]], None]
    ) -> None:
        """`store`: puts a large payload into the storage. `check_room`: raises QueueFull for a further task."""
        self._session, self._store, self._check_room = session, store, check_room

    def lock(self, given: Iterable[tuple[Row, KeyRule]]) -> None:
        """Lock the slots of several submissions in one order: two such transactions never wait for each other."""
        for slot in sorted({rule.slot(row["name"]) for row, rule in given}):
            submissions.lock_slot(self._session, slot, now=clock.now())

    def accept(self, row: Row, rule: KeyRule, *, has_id: bool) -> Keyed:
        """Accept a submission as its rule says. Raises Conflict, QueueFull, StorageUnavailable.

        `has_id`: the caller has chosen its id. Then a repeat returns what the first submission returned.
        """
        slot = submissions.lock_slot(self._session, rule.slot(row["name"]), now=clock.now())
        if has_id and (known := self._repeated(row)) is not None:
            return Keyed(known)
        if rule.kind is RuleKind.DEBOUNCE:
            return self._debounce(slot, row, rule, has_id=has_id)
        if rule.kind is RuleKind.THROTTLE:
            return self._throttle(slot, row, rule, has_id=has_id)
        return self._if_busy(slot, row, rule.if_busy)

    def _repeated(self, row: Row) -> TaskHandle | None:
        """The receipt of an id that was submitted before. Raises Conflict."""
        merged = submissions.find_merged(self._session, row["id"])
        if merged is not None:
            if not has_fingerprint(row, merged.fingerprint):
                raise Conflict(f"The id {row['id']!r} was used before for another task or another payload.")
            return _receipt(task_runs.get(self._session, merged.task_id), SubmitOutcome.REPEATED)
        if task_runs.find(self._session, row["id"]) is None:
            return None
        return existing(self._session, row).model_copy(update={"outcome": SubmitOutcome.REPEATED})

    # --- debounce

    def _debounce(self, slot: SubmissionSlot, row: Row, rule: KeyRule, *, has_id: bool) -> Keyed:
        now, wait = clock.now(), timedelta(seconds=rule.seconds)
        run = None if slot.task_id is None else task_runs.find(self._session, slot.task_id, lock=True)
        if run is not None and is_held(run):
            due = min(now + wait, slot.since + timedelta(seconds=rule.most))
            return Keyed(self._merge(slot, run, row, due, has_id=has_id))
        held = row | {"state": TaskState.SCHEDULED, "published_at": None, "due_at": now + wait}
        return Keyed(self._add(slot, held).handle)

    def _merge(self, slot: SubmissionSlot, run: TaskRun, row: Row, due: datetime, *, has_id: bool) -> TaskHandle:
        """Replace the payload and the options of a held task, and move its start."""
        if slot.merged == 0:  # its own id stands for the payload that it was first submitted with
            submissions.add_merged(self._session, run.id, task_id=run.id, fingerprint=run.fingerprint)
        if has_id:
            submissions.add_merged(self._session, row["id"], task_id=run.id, fingerprint=row["fingerprint"])
        slot.merged += 1
        stored = row | {"id": run.id}
        self._store(stored)
        if run.tags != row["tags"]:
            run.tags = row["tags"]
            submissions.replace_tags(self._session, run.id, run.tags)
        for column in REPLACED:
            setattr(run, column, stored[column])
        run.due_at = due
        self._note_merge(run, slot.merged, due)
        return _receipt(run, SubmitOutcome.MERGED)

    def _note_merge(self, run: TaskRun, number: int, due: datetime) -> None:
        if number <= MOST_EVENTS:
            data = {"number": number, "due_at": due.isoformat(), "request_id": run.request_id}
            task_events.add_event(self._session, run.id, "replaced", at=clock.now(), **data)

    # --- throttle

    def _throttle(self, slot: SubmissionSlot, row: Row, rule: KeyRule, *, has_id: bool) -> Keyed:
        run = None if slot.task_id is None else task_runs.find(self._session, slot.task_id)
        if run is None or not _is_within(run, timedelta(seconds=rule.seconds)):
            return self._add(slot, row)
        slot.merged += 1
        if has_id:
            submissions.add_merged(self._session, row["id"], task_id=run.id, fingerprint=row["fingerprint"])
        return Keyed(_receipt(run, SubmitOutcome.THROTTLED))

    # --- while another task waits or runs

    def _if_busy(self, slot: SubmissionSlot, row: Row, if_busy: IfBusy) -> Keyed:
        names = registry.names_of(row["name"])
        busy = submissions.unfinished(self._session, names, row["key"], limit=MOST_STOPPED)
        if busy and if_busy is IfBusy.DROP:
            return Keyed(_receipt(busy[0], SubmitOutcome.DROPPED))
        added = self._add(slot, row)
        stopped = [run for run in busy if not run.cancel_requested and _is_stopped(run, if_busy)]
        if added.run is None or not stopped:
            return added
        submissions.supersede(self._session, stopped, by=row["id"], only_waiting=if_busy is IfBusy.REPLACE)
        names_of_stopped = [run.id for run in stopped[:NAMED]]
        task_events.add_event(
            self._session, row["id"], "replaces", at=clock.now(), tasks=names_of_stopped, number=len(stopped)
        )
        outcome = {"outcome": SubmitOutcome.REPLACED, "replaced": names_of_stopped}
        return Keyed(added.handle.model_copy(update=outcome), added.run)

    def _add(self, slot: SubmissionSlot, row: Row) -> Keyed:
        """Accept a new task for the slot."""
        self._check_room([row["queue"]])
        self._store(row)
        accepted = accept(self._session, row)
        if isinstance(accepted, TaskHandle):
            return Keyed(accepted.model_copy(update={"outcome": SubmitOutcome.REPEATED}))
        slot.task_id, slot.since, slot.merged = accepted.id, clock.now(), 0
        handle = TaskHandle(
            task_id=accepted.id, state=TaskState(accepted.state), created=True, outcome=SubmitOutcome.ACCEPTED
        )
        if not is_held(accepted):
            return Keyed(handle, accepted)
        log.info("task held", task=accepted.name, task_id=accepted.id, queue=accepted.queue, due_at=accepted.due_at)
        return Keyed(handle)


def _is_within(run: TaskRun, period: timedelta) -> bool:
    """Whether a task stands for further submissions of its throttle key: it waits, or started within the period."""
    return run.state in WAITING if run.started_at is None else run.started_at + period > clock.now()


def _is_stopped(run: TaskRun, if_busy: IfBusy) -> bool:
    has_begun = run.state == TaskState.PROCESSING or run.attempts > 0
    return if_busy is IfBusy.NEWEST or has_begun is (if_busy is IfBusy.CANCEL_RUNNING)


def _receipt(run: TaskRun, outcome: SubmitOutcome) -> TaskHandle:
    return TaskHandle(task_id=run.id, state=TaskState(run.state), created=False, outcome=outcome)
