"""Tries the schedules: those of operators are kept in the database, those of the code come with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from laneway.platform.db.models import StoredSchedule
from laneway.platform.db.queries import unfinished
from laneway.platform.db.session import Database
from laneway.platform.gate.calls import Calls, NotTried
from laneway.platform.gate.findings import GateReport, Kind, Problem
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry
from laneway.platform.schedules.firing import CODE
from laneway.platform.schedules.keeping import definition_in

UNREADABLE = "This code cannot read its definition."


class ScheduleEntries:
    """Tries what Beat would submit."""

    def __init__(self, database: Database, calls: Calls, entries: Mapping[str, Any], names: Collection[str]) -> None:
        """`entries`: Celery's setting `beat_schedule`. `names`: of all tasks that a worker of this code runs."""
        self._database, self._calls, self._entries, self._names = database, calls, entries, names

    def try_all(self, report: GateReport) -> None:
        """Try every schedule that is not removed. Raises DatabaseUnavailable."""
        stored = unfinished.schedules(self._database) if unfinished.has_table(self._database, "schedules") else ()
        for key, entry in self._entries.items():
            report.count("schedules")
            if entry["task"] not in registry and entry["task"] not in self._names:
                _add(report, key, f"This code has no task {entry['task']!r}.", state="in the code")
        for row in stored:
            if row.source != CODE:
                report.count("schedules")
                self._try(row, report)
            elif row.key not in self._entries:
                report.notes.append(f"The schedule {row.key!r} is not in this code, and stops.")

    def _try(self, row: StoredSchedule, report: GateReport) -> None:
        state = "active" if row.paused_at is None else "paused"
        definition = definition_in(row)
        if definition is None:
            _add(report, row.key, UNREADABLE, state=state)
            return
        if definition.queue is not None and definition.queue not in declared:
            _add(report, row.key, f"Its queue {definition.queue!r} is not declared in this code.", state=state)
        try:
            problem = self._calls.problem_of_call(definition.task, definition.payload)
        except NotTried as error:
            report.leave_out(str(error))
            return
        if problem is not None:
            _add(report, row.key, problem.text, state=state)


def _add(report: GateReport, key: str, text: str, *, state: str) -> None:
    report.add(Problem(Kind.SCHEDULE, key, text), id=key, state=state)
