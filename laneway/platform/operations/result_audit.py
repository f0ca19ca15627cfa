"""The audit of results: compare Celery's result store with the history.

The history is taken as right. Its tasks fall into two groups:

- **A finished task** should have a final result that agrees with the history. If the result is gone (flushed, or lost
  with its store) or differs, the task is still accounted for. The finding is reported (`ResultProblem`), and a repair
  stores the result again from the history.
- **An unfinished task** must not have a final result. If it has one, work was done that the history does not know, and
  the task is unaccounted for (`CeleryResults.ends`, used by `audit.py`).

Results whose task the history does not know are reported as well.

Time and memory are bounded: a page of tasks costs one query and one round trip, however large the results are. Only
tasks with a finding are read a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    CeleryResults,
)
from laneway.platform.history.adoption import is_storable_id
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.schemas.task import TaskState

PAGE: Final = 500
GRACE: Final = timedelta(seconds=5)
"""Tasks that ended more recently are not compared: a worker records the end before it stores the result."""
MARGIN: Final = timedelta(minutes=1)
"""Results that expire within this time are not compared: they may be gone before they are read."""
MAX_NAMED: Final = 100
"""Most findings that are listed. All are counted, and a repair covers all."""
MAX_SCANNED: Final = 200_000
"""Keys of the result store that are scanned for results of unknown tasks."""


class ResultProblem(StrEnum):
    """What is wrong with a result."""

    MISSING = "missing"
    """A worker ended the task, and there is no final result."""
    CONTRADICTING = "contradicting"
    """The result has another state than the history, or cannot be read."""
    UNKNOWN = "unknown"
    """The history does not know the task: it was deleted, or another program stored the result."""


@dataclass(frozen=True, slots=True)
class ResultFinding:
    """A result that contradicts the history or is missing."""

    task_id: str
    kind: ResultProblem
    state: TaskState | None
    """The state in the history; None: the task is unknown."""
    stored: str | None
    """Celery's state in the store; None: there is no result, or the task is unknown."""


@dataclass(slots=True)
class ResultReport:
    """The outcome of comparing the result store with the history."""

    listable: bool = True
    """False: this kind of result store cannot be searched, and nothing was compared."""
    looked_at: int = 0
    """Finished tasks whose results were compared."""
    found: dict[ResultProblem, int] = field(default_factory=lambda: dict.fromkeys(ResultProblem, 0))
    named: list[ResultFinding] = field(default_factory=list)
    """The first `MAX_NAMED` findings."""
    repaired: int = 0
    scanned_all: bool = True
    """False: the store has more than `MAX_SCANNED` results, and unknown tasks may be missed."""

    def add(self, finding: ResultFinding) -> None:
        """Count a finding, and list it unless `MAX_NAMED` are listed."""
        self.found[finding.kind] += 1
        if len(self.named) < MAX_NAMED:
            self.named.append(finding)


class ResultAudit:
    """Compares results with the history, reports each problem, and stores results again if asked to."""

    def __init__(self, database: Database, recorder: JournalRecorder, results: CeleryResults) -> None:
        self._database, self._recorder, self._results = database, recorder, results

    def run(self, *, repair: bool = False, between: Callable[[], None] = lambda: None) -> ResultReport:
        """Compare everything once. Raises ResultStoreUnavailable, DatabaseUnavailable.

        `between`: called between two pages; if it raises, the audit stops there.
        """
        report = ResultReport(listable=self._results.listable)
        if not report.listable:
            return report
        for page in self._finished_tasks():
            between()
            report.looked_at += len(page)
            findings = self._findings(page)
            for finding in findings.values():
                report.add(finding)
            if repair:
                report.repaired += self._store_again(findings)
        for finding in self._unknown_tasks(report, between):
            report.add(finding)
        return report

    # --- finished tasks and their results

    def _finished_tasks(self) -> Iterator[list[Ended]]:
        """Yield pages of finished tasks whose results must be stored by now and have not expired."""
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

    def _findings(self, page: Sequence[Ended]) -> dict[Ended, ResultFinding]:
        """Compare twice, and return the findings that still exist after the history was brought up to date."""
        suspects = [end for end, finding in self._compared(page) if finding]
        if not suspects:
            return {}
        ids = [end.id for end in suspects]
        self._recorder.catch_up()  # a task that was sent again in the meantime is not finished any more
        with self._database.reading() as session:
            ended, submitted = audit.still_ended(session, ids), audit.submitted(session, ids)
        suspects = [end for end in suspects if end in ended]
        return {
            end: finding
            for end, finding in self._compared(suspects)
            # A task that was sent without the platform may have been sent with ignore_result.
            if finding and (finding.stored or end.id in submitted)
        }

    def _compared(self, ends: Sequence[Ended]) -> Iterator[tuple[Ended, ResultFinding | None]]:
        stored = self._results.states([end.id for end in ends])
        for end, state in zip(ends, stored, strict=True):
            yield end, _compare(end, state)

    def _store_again(self, findings: dict[Ended, ResultFinding]) -> int:
        """Store the results of these tasks again, except for tasks that have changed since; return how many."""
        ends, repaired = {end.id: end for end in findings}, 0
        ids = list(ends)
        for first in range(0, len(ids), RESULTS_PER_FETCH):
            with self._database.reading() as session:
                runs = task_runs.by_ids(session, ids[first : first + RESULTS_PER_FETCH])
            for run in runs:
                end = ends[run.id]
                if (run.state, run.finished_at) == (end.state, end.finished_at) and not _is_blanked(run):
                    self._results.replace(run)
                    repaired += 1
        return repaired

    # --- results of unknown tasks

    def _unknown_tasks(self, report: ResultReport, between: Callable[[], None]) -> Iterator[ResultFinding]:
        scanned = 0
        for ids in self._results.ids(page=PAGE):
            between()
            if scanned >= MAX_SCANNED:
                report.scanned_all = False
                return
            scanned += PAGE
            unknown = self._unknown_to_history(ids)
            if unknown:
                self._recorder.catch_up()
                unknown = self._unknown_to_history(unknown)
            yield from (ResultFinding(id, ResultProblem.UNKNOWN, None, None) for id in unknown)

    def _unknown_to_history(self, ids: Sequence[str]) -> list[str]:
        storable = [id for id in ids if is_storable_id(id)]  # the database refuses to compare the others
        with self._database.reading() as session:
            known = audit.known(session, storable) if storable else set[str]()
        return [id for id in dict.fromkeys(ids) if id not in known]


def _compare(end: Ended, stored: str | None) -> ResultFinding | None:
    """Compare the end of a task in the history with Celery's state in its result."""
    state = TaskState(end.state)
    if state not in CELERY_STATES or _is_celerys_own(end):
        return None
    if stored is None:
        ended_by_a_worker = end.started_at is not None or state is TaskState.EXPIRED
        return ResultFinding(end.id, ResultProblem.MISSING, state, None) if ended_by_a_worker else None
    if stored not in FINAL_STATES:
        kind = ResultProblem.CONTRADICTING if stored == UNREADABLE else ResultProblem.MISSING
        return ResultFinding(end.id, kind, state, stored)
    return None if stored == CELERY_STATES[state] else ResultFinding(end.id, ResultProblem.CONTRADICTING, state, stored)


def _is_celerys_own(end: Ended) -> bool:
    """Whether the history knows only that the message was acknowledged, as for Celery's own tasks."""
    return end.state == TaskState.COMPLETED and end.started_at is None


def _is_blanked(run: TaskRun) -> bool:
    """Whether retention deleted the result from the row, so that it cannot be stored again."""
    return run.state == TaskState.COMPLETED and run.result is None and not run.payload
