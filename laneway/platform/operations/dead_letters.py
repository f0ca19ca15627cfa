"""Dead letters: tasks that failed for good, and messages that could not be read or run.

Operators list them one by one or by group (tasks that failed the same way). They send them again or discard them, by
id, by group or by filter. A dry run only counts them. A discarded dead letter can be restored for a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.access.bounds import covers
from laneway.platform.access.caller import current_caller
from laneway.platform.audit_log.recording import record, record_many
from laneway.platform.broker import Broker
from laneway.platform.bulk import Action, BulkResult, in_pages
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import search, task_events, task_runs
from laneway.platform.db.queries.search import Filter, Group
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PlatformError, UnknownTask, WrongState
from laneway.platform.history.journal_projection import UNDELIVERABLE
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.task_manager import TaskManager
from laneway.schemas.task import TaskState

log = logger(__name__)

DEAD: Final = (TaskState.DEAD_LETTER, TaskState.FAILED)
SAMPLES: Final = 5
HOURS: Final = 24
"""Hours that `by_hour` looks back, with the current one."""
PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the selected ones: at most `most` of those before `before`, the `next` of the part before it."""

    before: int | None = None
    most: int | None = None


class DeadLetters:
    """Lists dead letters, sends them again, discards and restores them."""

    def __init__(self, database: Database, broker: Broker, recorder: JournalRecorder, tasks: TaskManager) -> None:
        self._database, self._broker, self._recorder, self._tasks = database, broker, recorder, tasks

    def page(self, which: Filter, *, before: int | None = None, limit: int = 50) -> Sequence[TaskRun]:
        """Return dead letters, newest first. Those in the trash are included only if the filter asks for them."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return search.page(session, _dead_only(which), before=before, limit=limit)

    def groups(self, which: Filter, *, limit: int = 50) -> list[Group]:
        """Return the groups of dead letters that failed the same way, the largest group first."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return search.groups(session, _dead_only(which), limit=limit)

    def by_hour(self, which: Filter, groups: Sequence[Group]) -> dict[tuple[str, str], list[int]]:
        """Group and name → how many became dead letters in each of the last 24 hours, the current hour last.

        `groups`: those that are looked at.
        """
        this_hour = clock.now().replace(minute=0, second=0, microsecond=0)
        since = this_hour - timedelta(hours=HOURS - 1)
        with self._database.reading() as session:
            return search.by_hour(session, _dead_only(which), of=groups, since=since, hours=HOURS)

    def show(self, id: str) -> TaskRun:
        """Return one dead letter with everything that is kept of it. Raises NotFound."""
        run = self._tasks.current(id)
        if run.state not in DEAD:
            raise NotFound("dead letter", id)
        return run

    def requeue(self, which: Filter, *, dry_run: bool = False, part: Part | None = None) -> BulkResult[TaskRun]:
        """Send the selected ones again. One that cannot be sent is reported and stays a dead letter. Safe to repeat."""
        return self._apply(_dead_only(which), self._requeue_each, dry_run=dry_run, part=part)

    def discard(self, which: Filter, *, dry_run: bool = False, part: Part | None = None) -> BulkResult[TaskRun]:
        """Move the selected ones to the trash."""
        return self._apply(_dead_only(which), partial(self._set_trashed, "discarded"), dry_run=dry_run, part=part)

    def restore(self, which: Filter, *, dry_run: bool = False, part: Part | None = None) -> BulkResult[TaskRun]:
        """Take the selected ones out of the trash."""
        return self._apply(
            _dead_only(which, trashed=True), partial(self._set_trashed, "restored"), dry_run=dry_run, part=part
        )

    def _apply(self, which: Filter, action: Action, *, dry_run: bool, part: Part | None) -> BulkResult[TaskRun]:
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            matched = search.count(session, which)
            samples = list(search.page(session, which, limit=SAMPLES))
            refused = dict(_unmatched_ids(session, which))
        if dry_run:
            return BulkResult(matched=matched, done=0, samples=samples, refused=refused, dry_run=True)
        walk = _Walk(self._database, which, part or Part())
        done, failed = action(walk)
        self._recorder.catch_up_quietly()  # a task that the engine delivers again is no dead letter any more
        return BulkResult(
            matched=matched, done=done, samples=samples, refused=refused | failed, dry_run=False, next=walk.next
        )

    def _requeue_each(self, runs: Iterable[TaskRun]) -> tuple[int, dict[str, str]]:
        """Deliver the messages again that the broker still has; run the other tasks again, many at once."""
        delivered, refused = 0, dict[str, str]()

        def others() -> Iterator[TaskRun]:
            nonlocal delivered
            for run in runs:
                try:
                    if run.error_type == UNDELIVERABLE and self._requeue_message(run):
                        delivered += 1
                        continue
                    if run.raw is not None:
                        raise WrongState(run.id, "no longer kept by the broker", "sent again")
                except PlatformError as error:
                    refused[run.id] = str(error)
                else:
                    yield run

        done, failed = self._tasks.retry_many(others(), action="dead_letter.requeue")
        return delivered + done, refused | failed

    def _requeue_message(self, run: TaskRun) -> bool:
        """Let the broker deliver the message again that it still has; False if it has none."""
        if self._broker.find(run.queue, [run.id]) in (None, [None]):
            return False
        with self._database.transaction() as session:
            record(session, "dead_letter.requeue", ("task", run.id), before=_state(run))
        return self._broker.requeue(run.queue, run.id)

    def _set_trashed(self, event: str, runs: Iterable[TaskRun]) -> tuple[int, dict[str, str]]:
        """Put these dead letters into the trash, or take them out, a page in a transaction."""
        done, refused = 0, dict[str, str]()
        for page in in_pages(runs, PAGE):
            now = clock.now()
            try:
                with self._database.transaction() as session:
                    found = search.trash(session, [run.id for run in page], at=now if event == "discarded" else None)
                    known = [run for run in page if run.id in found]
                    events = [_event(run, event, at=now) for run in known]
                    task_events.add_events(session, events)
                    objects = [(("task", run.id), _state(run)) for run in known]
                    record_many(session, f"dead_letter.{_VERBS[event]}", objects)
            except PlatformError as error:
                refused.update({run.id: str(error) for run in page})
                continue
            refused.update({run.id: str(UnknownTask(run.id)) for run in page if run.id not in found})
            log.info(f"dead letters {event}", tasks=len(known))
            done += len(known)
        return done, refused


class _Walk:
    """The selected tasks, newest first, a page at a time."""

    def __init__(self, database: Database, which: Filter, part: Part) -> None:
        self._database, self._which, self._part = database, which, part
        self.next: int | None = None
        """Where the next part begins; None: nothing is left."""

    def __iter__(self) -> Iterator[TaskRun]:
        before, left = self._part.before, self._part.most
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            with self._database.reading() as session:
                page = search.page(session, self._which, before=before, limit=size)
            yield from page
            if len(page) < size:
                return
            before, left = page[-1].seq, None if left is None else left - size
        self.next = before


_VERBS: Final = {"discarded": "discard", "restored": "restore"}
"""Event of a task → the action of the audit log."""


def _event(run: TaskRun, kind: str, *, at: datetime) -> dict[str, Any]:
    return {"task_id": run.id, "at": at, "kind": kind, "attempt": None, "data": {}}


def _state(run: TaskRun) -> dict[str, Any]:
    return {"name": run.name, "queue": run.queue, "state": run.state, "in_trash": run.trashed_at is not None}


def _unmatched_ids(session: Session, which: Filter) -> Iterator[tuple[str, str]]:
    """Yield the ids in the filter on which the action is impossible, each with the reason."""
    found, caller = task_runs.by_ids(session, which.ids), current_caller()
    known = {run.id: run for run in found if covers(caller, run.id, name=run.name, queue=run.queue)}
    for id in dict.fromkeys(which.ids):
        run = known.get(id)
        if run is None:
            yield id, str(UnknownTask(id))
        elif run.state not in DEAD:
            yield id, f"Task {id!r} is {run.state}: it is no dead letter."
        elif which.trashed is not None and (run.trashed_at is not None) is not which.trashed:
            yield id, f"Dead letter {id!r} is {'not ' if which.trashed else ''}in the trash."


def _dead_only(which: Filter, *, trashed: bool = False) -> Filter:
    """Return the filter limited to dead letters. `trashed` is used if the filter itself leaves `trashed` open."""
    states = tuple(state for state in which.states if state in DEAD) or (TaskState.DEAD_LETTER,)
    return replace(which, states=states, trashed=trashed if which.trashed is None else which.trashed)
