"""Tries this code on everything that waits in a live installation, before it is rolled out. It only reads.

1. The rows of tasks that are not finished, and of dead letters: is the task known, is its queue declared, does its
   payload fit.
2. The messages of the broker that have no row.
3. The runs of workflows that are not over: can the steps that are left run.
4. The schedules: does what they submit fit.

The tables may be older than this code, so only columns are read that older versions have as well.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from laneway.platform.db.queries import unfinished
from laneway.platform.db.schema_versions import current_revision
from laneway.platform.gate.calls import Calls
from laneway.platform.gate.findings import GateReport
from laneway.platform.gate.schedules import ScheduleEntries
from laneway.platform.gate.tasks import Progress, Tasks
from laneway.platform.gate.workflows import WorkflowRuns
from laneway.platform.platform import Platform

NOTHING_YET = "The database has no tables of Laneway: nothing waits."


class Gate:
    """The gate of a platform that was made from this code, on the servers of the live installation."""

    def __init__(self, platform: Platform, app: Celery) -> None:
        self._platform, self._app = platform, app

    def look(self, progress: Progress = lambda _done, _total: None) -> GateReport:
        """Try everything. Raises DatabaseUnavailable, BrokerUnavailable, ForeignBroker."""
        platform, report = self._platform, GateReport()
        self._note_tables(report)
        if not unfinished.has_table(platform.database, "task_runs"):
            report.notes.append(NOTHING_YET)
            return report
        platform.installation.refuse_foreign_broker()
        calls = Calls(frozenset(self._app.tasks))
        tasks = Tasks(platform.database, platform.broker, calls, report)
        tasks.try_rows(progress)
        tasks.try_messages()
        if unfinished.has_table(platform.database, "workflow_runs"):
            definitions, handlers = platform.workflow_definitions, platform.workflow_handlers
            WorkflowRuns(platform.database, definitions, handlers).try_all(report)
        entries: dict[str, Any] = self._app.conf.beat_schedule or {}
        ScheduleEntries(platform.database, calls, entries, frozenset(self._app.tasks)).try_all(report)
        return report

    def _note_tables(self, report: GateReport) -> None:
        for history in self._platform.migrations:
            with self._platform.database.reading() as session:
                found = current_revision(session, history)
            if found == history.head:
                continue
            tables = f"The tables ({history.version_table}) are at {found or 'no version'}, and this code"
            if found is not None and found not in history.revisions:
                report.notes.append(f"{tables} knows them up to {history.head}: a newer version has migrated them.")
            else:
                report.notes.append(f"{tables} needs {history.head}: `laneway prepare` migrates them.")
