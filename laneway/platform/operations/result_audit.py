"""The third place of the audit: what Celery's result store says beside what the history says.

The history is the truth. A result that is gone was flushed or expired with its store, and its task is accounted for
without it: that is told, and can be put back. A result that says that a task is over of whose end the history knows
nothing is another matter: work was done of which nobody keeps account.

Time and memory are bounded: a page of tasks costs one query and one round trip, whatever the results weigh; only what
was found wrong is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import audit, task_runs
from laneway.platform.db.queries.audit import Ended
from laneway.platform.db.session import Database
from laneway.platform.execution.celery_results import (
    CELERY_STATES,
    FINAL_STATES,
    RESULTS_PER_FETCH,
    UNREADABLE,
    Results,
)
from laneway.platform.history.adoption import is_storable_id
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.schemas.task import TaskState

PAGE: Final = 500
GRACE: Final = timedelta(seconds=5)
"""A worker notes the end of a task before it stores the result."""
MARGIN: Final = timedelta(minutes=1)
"""Results that expire so soon may be gone before they are looked at."""
NAMED: Final = 100
"""So many findings are named; all are counted, and with repair all are put right."""
SCANNED: Final = 200_000
"""Keys of the store that are looked through for tasks that nobody knows."""
CELERYS_OWN: Final = "celery."
"""Tasks so named say that they are over by their results alone; the history follows with the acknowledgement."""
PROCESS_LOST: Final = frozenset({"WorkerLostError", "TimeLimitExceeded"})
"""What a worker's main process stores for a process that is gone: the end of an attempt, which may be retried."""


class Kind(StrEnum):
    """What may be wrong with a result."""

    MISSING = "missing"
    """A worker ended the task, and the final result is not there."""
    CONTRADICTING = "contradicting"
    """It says another end than the history."""
    UNKNOWN = "unknown"
    """The history does not know the task."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A result that does not fit the history."""

    task_id: str
    kind: Kind
    state: TaskState | None
    """In the history."""
    stored: str | None
    """Celery's state in the store; none: there is no result."""


@dataclass(slots=True)
class ResultCount:
    """What a look at the result store brought."""

    listable: bool = True
    """False: this store cannot be looked through."""
    looked_at: int = 0
    """Ended tasks whose results should be there still."""
    found: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    named: list[Finding] = field(default_factory=list)
    repaired: int = 0
    scanned_all: bool = True
    """False: the store has more results than are looked through for unknown tasks."""

    def add(self, finding: Finding) -> None:
        """One more."""
        self.found[finding.kind] += 1
        if len(self.named) < NAMED:
            self.named.append(finding)


class ResultAudit:
    """Compares, names, and puts back."""

    def __init__(self, database: Database, recorder: JournalRecorder, results: Results) -> None:
        self._database, self._recorder, self._results = database, recorder, results

    def count(self, *, repair: bool = False) -> ResultCount:
        """Look at everything once. Raises ResultStoreUnavailable, DatabaseUnavailable."""
        count = ResultCount(listable=self._results.listable)
        if not count.listable:
            return count
        for page in self._ended():
            count.looked_at += len(page)
            wrong = self._wrong(page)
            for finding in wrong.values():
                count.add(finding)
            if repair:
                count.repaired += self._put_back(wrong)
        for finding in self._unknown(count):
            count.add(finding)
        return count

    def said_to_be_over(self, runs: Sequence[TaskRun]) -> dict[str, str]:
        """Task → what its result says, for those of these unfinished tasks that are over by their results.

        Only what was stored since the task was last sent or started counts: older results are of an earlier run, and
        what a main process says of a lost one is not the end of the task.
        """
        runs = [run for run in runs if not run.name.startswith(CELERYS_OWN)]
        if not runs or not self._results.listable:
            return {}
        said = self._results.states([run.id for run in runs])
        suspects = [run for run, state in zip(runs, said, strict=True) if state in FINAL_STATES]
        found: dict[str, str] = {}
        for run, end in zip(suspects, self._results.final_results([run.id for run in suspects]), strict=True):
            since = max(at for at in (run.accepted_at, run.published_at, run.started_at) if at)
            if end and end.error_type not in PROCESS_LOST and (end.at is None or end.at >= since):
                found[run.id] = end.state
        return found

    def take_away(self, id: str) -> None:
        """Forget a result that is not the end of its task: a success would stay there whatever comes."""
        self._results.forget(id)

    def _ended(self) -> Iterator[list[Ended]]:
        now, kept, after = clock.now(), self._results.retention, None
        since = now - kept + MARGIN if kept else None
        while True:
            with self._database.reading() as session:
                page = audit.ended(session, since=since, before=now - GRACE, after=after, limit=PAGE)
            if page:
                yield page
            if len(page) < PAGE:
                return
            after = page[-1]

    def _wrong(self, page: Sequence[Ended]) -> dict[Ended, Finding]:
        suspects = [end for end, finding in self._compared(page) if finding]
        if not suspects:
            return {}
        ids = [end.id for end in suspects]
        self._recorder.catch_up()  # what was sent again meanwhile is not over any more
        with self._database.reading() as session:
            ended, submitted = audit.still_ended(session, ids), audit.submitted(session, ids)
        suspects = [end for end in suspects if end in ended]
        return {
            end: finding
            for end, finding in self._compared(suspects)
            # a task that came past the platform may have been told not to keep its result
            if finding and (finding.stored or end.id in submitted)
        }

    def _compared(self, ends: Sequence[Ended]) -> Iterator[tuple[Ended, Finding | None]]:
        stored = self._results.states([end.id for end in ends])
        for end, state in zip(ends, stored, strict=True):
            yield end, _compare(end, state)

    def _put_back(self, wrong: dict[Ended, Finding]) -> int:
        ends, done = {end.id: end for end in wrong}, 0
        ids = list(ends)
        for first in range(0, len(ids), RESULTS_PER_FETCH):
            with self._database.reading() as session:
                runs = task_runs.recent(session, ids[first : first + RESULTS_PER_FETCH])
            for run in runs:
                if (run.state, run.finished_at) == (ends[run.id].state, ends[run.id].finished_at) and not _blanked(run):
                    self._results.replace(run)
                    done += 1
        return done

    def _unknown(self, count: ResultCount) -> Iterator[Finding]:
        scanned = 0
        for ids in self._results.ids(page=PAGE):
            if scanned >= SCANNED:
                count.scanned_all = False
                return
            scanned += PAGE
            absent = self._absent(ids)
            if absent:
                self._recorder.catch_up()
                absent = self._absent(absent)
            yield from (Finding(id, Kind.UNKNOWN, None, None) for id in absent)

    def _absent(self, ids: Sequence[str]) -> list[str]:
        storable = [id for id in ids if is_storable_id(id)]  # the others cannot even be asked for
        with self._database.reading() as session:
            known = audit.known(session, storable) if storable else set[str]()
        return [id for id in dict.fromkeys(ids) if id not in known]


def _compare(end: Ended, stored: str | None) -> Finding | None:
    """What is wrong with the result of a task that is over."""
    state = TaskState(end.state)
    if state not in CELERY_STATES or (state is TaskState.COMPLETED and end.started_at is None):
        return None  # the latter is a task of Celery's own: the history says only that its message was acknowledged
    if stored is None:
        by_a_worker = end.started_at is not None or state is TaskState.EXPIRED
        return Finding(end.id, Kind.MISSING, state, None) if by_a_worker else None
    if stored not in FINAL_STATES:
        kind = Kind.CONTRADICTING if stored == UNREADABLE else Kind.MISSING
        return Finding(end.id, kind, state, stored)
    return None if stored == CELERY_STATES[state] else Finding(end.id, Kind.CONTRADICTING, state, stored)


def _blanked(run: TaskRun) -> bool:
    """Whether retention took the result away, which then cannot be put back."""
    return run.state == TaskState.COMPLETED and run.result is None and not run.payload
