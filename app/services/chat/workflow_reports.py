"""Reports on workflows: figures by type and in total, stored so that they can be fetched."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from app.db.queries import analytics as reports
from app.schemas.analytics import ReportKind, ReportResponse, WeeklyWorkflowReport, WorkflowFigures
from laneway.platform import clock
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.queries.workflows import TypeFigures
from laneway.platform.db.session import Database
from laneway.schemas.workflow_run import RUN_OVER, RunState


class WorkflowReports:
    """Computes and stores reports on workflows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def weekly(self, report_id: str, *, start: datetime, end: datetime) -> ReportResponse:
        """Compute and store the report on workflows accepted from `start` up to `end`; a repeat overwrites it."""
        with self._database.reading() as session:
            types = repository.figures(session, start=start, end=end, total_of="weekly_savings_cents")
        data = WeeklyWorkflowReport(total=_figures(_total(types)), types=[_figures(item) for item in types])
        row = {
            "id": report_id,
            "kind": ReportKind.WEEKLY_WORKFLOWS.value,
            "data": data.model_dump(mode="json"),
            "created_at": clock.now(),
            "period_start": start,
            "period_end": end,
        }
        with self._database.transaction() as session:
            reports.store_report(session, **row)
        return ReportResponse.model_validate(row)


def _total(types: list[TypeFigures]) -> TypeFigures:
    states: Counter[str] = Counter()
    for item in types:
        states.update(item.states)
    completed = states[RunState.COMPLETED]
    total_ms = sum((item.mean_duration_ms or 0) * item.states.get(RunState.COMPLETED, 0) for item in types)
    mean_ms = total_ms / completed if completed else None
    return TypeFigures("total", dict(states), mean_ms, sum(item.total for item in types))


def _figures(figures: TypeFigures) -> WorkflowFigures:
    states = figures.states
    runs, ended = sum(states.values()), sum(states.get(state, 0) for state in RUN_OVER)
    completed, mean_ms = states.get(RunState.COMPLETED, 0), figures.mean_duration_ms
    return WorkflowFigures(
        name=figures.type,
        runs=runs,
        completed=completed,
        failed=states.get(RunState.FAILED, 0),
        cancelled=states.get(RunState.CANCELLED, 0),
        unfinished=runs - ended,
        completion_rate=round(completed / ended, 4) if ended else None,
        mean_duration_seconds=None if mean_ms is None else round(mean_ms / 1000, 3),
        weekly_savings=figures.total / 100,
    )
