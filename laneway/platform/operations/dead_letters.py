"""Dead letters: tasks that failed for good, and messages that could not be read or run.

They are looked through by group (what failed the same way), sent again one by one, by group or by filter (with a dry
run first), or discarded: then they can be restored for a day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import search, task_runs
from laneway.platform.db.queries import task_events as stories
from laneway.platform.db.queries.search import Filter, Group
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PlatformError, UnknownTask, WrongState
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.schemas.task import TaskState
from laneway.platform.task_control import check_payload
from laneway.platform.task_manager import TaskManager

log = logger(__name__)

DEAD: Final = (TaskState.DEAD_LETTER, TaskState.FAILED)
SAMPLES = 5
PAGE = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """What an action on many would do, or did. `refused`: id → why not."""

    matched: int
    done: int
    samples: list[TaskRun]
    refused: dict[str, str]
    dry_run: bool


class DeadLetters:
    """What an operator does with them."""

    def __init__(self, database: Database, broker: Broker, recorder: JournalRecorder, tasks: TaskManager) -> None:
        self._database, self._broker, self._recorder, self._tasks = database, broker, recorder, tasks

    def page(self, which: Filter, *, before: int | None = None, limit: int = 50) -> Sequence[TaskRun]:
        """Some of them, newest first; those in the trash only when asked for."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return search.page(session, _dead(which), before=before, limit=limit)

    def groups(self, which: Filter, *, limit: int = 50) -> list[Group]:
        """What failed the same way, the largest group first."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return search.groups(session, _dead(which), limit=limit)

    def show(self, id: str) -> TaskRun:
        """One of them, with everything that is kept. Raises NotFound."""
        run = self._tasks.current(id)
        if run.state not in DEAD:
            raise NotFound("dead letter", id)
        return run

    def requeue(self, which: Filter, *, dry_run: bool = False) -> Plan:
        """Send them again; what can not be is named, and stays. Safe to repeat."""
        return self._each(_dead(which), self._requeue, dry_run=dry_run)

    def discard(self, which: Filter, *, dry_run: bool = False) -> Plan:
        """Put them into the trash."""
        return self._each(_dead(which), self._discard, dry_run=dry_run)

    def restore(self, which: Filter, *, dry_run: bool = False) -> Plan:
        """Take them out of the trash."""
        return self._each(_dead(which, trashed=True), self._restore, dry_run=dry_run)

    def _each(self, which: Filter, act: _Act, *, dry_run: bool) -> Plan:
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            matched = search.count(session, which)
            samples = list(search.page(session, which, limit=SAMPLES))
            refused = dict(_left_out(session, which))
        if dry_run:
            return Plan(matched, 0, samples, refused, dry_run=True)
        done = 0
        for run in self._all(which):
            try:
                act(run)
                done += 1
            except PlatformError as error:
                refused[run.id] = str(error)
        self._recorder.catch_up_quietly()  # what the engine delivers again is no dead letter any more
        return Plan(matched, done, samples, refused, dry_run=False)

    def _all(self, which: Filter) -> Iterator[TaskRun]:
        before: int | None = None
        while True:
            with self._database.reading() as session:
                page = search.page(session, which, before=before, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            before = page[-1].seq

    def _requeue(self, run: TaskRun) -> None:
        if run.raw is None:
            check_payload(run)
            self._tasks.retry(run.id)
        elif not self._broker.requeue(run.queue, run.id):
            raise WrongState(run.id, "no longer kept by the broker", "sent again")

    def _discard(self, run: TaskRun) -> None:
        self._trash(run, "discarded")

    def _restore(self, run: TaskRun) -> None:
        self._trash(run, "restored")

    def _trash(self, run: TaskRun, kind: str) -> None:
        now = clock.now()
        with self._database.transaction() as session:
            search.trash(session, [run.id], at=now if kind == "discarded" else None)
            stories.add_event(session, run.id, kind, at=now)
        log.info(f"dead letter {kind}", task_id=run.id, task=run.name)


_Act = Callable[[TaskRun], None]


def _left_out(session: Session, which: Filter) -> Iterator[tuple[str, str]]:
    """Those of the ids asked for that are nothing to act on, and why."""
    known = {run.id: run for run in task_runs.recent(session, which.ids)}
    for id in dict.fromkeys(which.ids):
        run = known.get(id)
        if run is None:
            yield id, str(UnknownTask(id))
        elif run.state not in DEAD:
            yield id, f"Task {id!r} is {run.state}: it is no dead letter."
        elif which.trashed is not None and (run.trashed_at is not None) is not which.trashed:
            yield id, f"Dead letter {id!r} is {'not ' if which.trashed else ''}in the trash."


def _dead(which: Filter, *, trashed: bool = False) -> Filter:
    states = tuple(state for state in which.states if state in DEAD) or (TaskState.DEAD_LETTER,)
    wanted = which.trashed if which.trashed is not None else trashed
    return Filter(
        states=states,
        name=which.name,
        queue=which.queue,
        key=which.key,
        tag=which.tag,
        group=which.group,
        error=which.error,
        since=which.since,
        until=which.until,
        ids=which.ids,
        trashed=wanted,
    )
