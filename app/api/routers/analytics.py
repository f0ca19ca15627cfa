"""Routes of analytics: request, list and fetch reports."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import ConfigDict, model_validator

from app.api.deps import ReportId, ServicesDep
from app.schemas.analytics import ReportKind, ReportList, ReportPeriod, ReportResponse
from laneway.api.access import requires
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.schemas.task import TaskHandle

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=ThreadedRoute)

TASKS = {"conversations": "generate_conversation_analytics_task", "performance": "generate_performance_report_task"}


class ReportRequest(ReportPeriod):
    """The kind of a report, and its period."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"kind": "conversations", "hours": 24}]})

    kind: Literal["conversations", "performance"]

    @model_validator(mode="after")
    def _require_past_start(self) -> ReportRequest:
        if self.start and not self.end and self.start >= clock.now():
            raise ValueError("a period without an end lasts until now: start must be in the past")
        return self


@router.post(
    "/reports",
    status_code=202,
    response_description="Accepted: a task computes it",
    responses=problems(429),
    dependencies=[requires(Scope.SUBMIT)],
)
def request_report(body: ReportRequest, services: ServicesDep) -> TaskHandle:
    """Request a report; a task computes it, and the task's id is the report's id."""
    period = ReportPeriod(start=body.start, end=body.end, hours=body.hours)
    return services.tasks.submit(TASKS[body.kind], period)


@router.get("/reports", responses=problems(), dependencies=[requires(Scope.READ)])
def list_reports(
    services: ServicesDep,
    kind: Annotated[ReportKind | None, Query(description="Only reports of this kind")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> ReportList:
    """The stored reports, newest first."""
    return ReportList(reports=list(services.analytics.reports(kind=kind, limit=limit)))


@router.get("/reports/{report_id}", responses=problems(404), dependencies=[requires(Scope.READ)])
def show_report(services: ServicesDep, report_id: ReportId) -> ReportResponse:
    """One report."""
    return services.analytics.report(report_id)
