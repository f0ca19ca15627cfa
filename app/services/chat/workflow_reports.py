"""How workflows fared: figures by type and in sum, kept as a report that can be fetched."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from app.db.queries import analytics as reports
from app.schemas.report import ReportKind, ReportResponse, WeeklyWorkflowReport, WorkflowFigures
from laneway.platform import clock
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.queries.workflows import TypeFigures
from laneway.platform.db.session import Database
from laneway.platform.schemas.workflow_run import RUN_OVER, RunState


class WorkflowReports:
    """Computes reports on workflows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def weekly(self, report_id: str, *, start: datetime, end: datetime) -> ReportResponse:
        """Compute and keep how the workflows accepted from `start` up to `end` fared; a repeat overwrites."""
        with self._database.reading() as session:
            found = repository.figures(session, start=start, end=end, total_of="weekly_savings_cents")
        data = WeeklyWorkflowReport(total=_figures(_sum(found)), types=[_figures(one) for one in found])
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


def _sum(found: list[TypeFigures]) -> TypeFigures:
    states: Counter[str] = Counter()
    for one in found:
        states.update(one.states)
    done, lasted = states[RunState.COMPLETED], [one for one in found if one.mean_duration_ms is not None]
    total_ms = sum((one.mean_duration_ms or 0) * one.states.get(RunState.COMPLETED, 0) for one in lasted)
    return TypeFigures("total", dict(states), total_ms / done if done else None, sum(one.total for one in found))


def _figures(one: TypeFigures) -> WorkflowFigures:
    runs, over = sum(one.states.values()), sum(one.states.get(state, 0) for state in RUN_OVER)
    completed, mean = one.states.get(RunState.COMPLETED, 0), one.mean_duration_ms
    return WorkflowFigures(
        name=one.type,
        runs=runs,
        completed=completed,
        failed=one.states.get(RunState.FAILED, 0),
        cancelled=one.states.get(RunState.CANCELLED, 0),
        unfinished=runs - over,
        completion_rate=round(completed / over, 4) if over else None,
        mean_duration_seconds=None if mean is None else round(mean / 1000, 3),
        weekly_savings=one.total / 100,
    )
