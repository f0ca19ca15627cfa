"""The list of reports, and one report: its figures as tables, and the days of a period as a chart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from app.api.deps import ReportId, ServicesDep
from app.console.bars import HEIGHT, WIDTH, bars
from app.console.shown import GROUP, PAGE, pages, rights
from app.schemas.analytics import (
    ConversationAnalysisSummary,
    ConversationAnalytics,
    PerformanceReport,
    ReportKind,
    ReportResponse,
    WeeklyWorkflowReport,
)
from app.services.container import Services
from laneway.api.access import requires
from laneway.api.deps import OnlyKnown
from laneway.api.navigation import NavigationEntry
from laneway.api.parameters import Timestamp
from laneway.console.rendering import PageRoute
from laneway.console.values import shown_value
from laneway.platform import clock
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope

router = APIRouter(
    prefix="/console/reports", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
navigation = (NavigationEntry("Reports", "/console/reports", "r", Scope.READ, GROUP),)

Figures = ConversationAnalysisSummary | ConversationAnalytics | PerformanceReport | WeeklyWorkflowReport
FIGURES: Final[dict[str, type[Figures]]] = {
    ReportKind.CONVERSATION_ANALYSIS: ConversationAnalysisSummary,
    ReportKind.CONVERSATION_ANALYTICS: ConversationAnalytics,
    ReportKind.PERFORMANCE: PerformanceReport,
    ReportKind.WEEKLY_WORKFLOWS: WeeklyWorkflowReport,
}
"""The kind of a report → the figures that it has."""
TITLES: Final[dict[str, str]] = {
    ReportKind.CONVERSATION_ANALYSIS: "How customers feel",
    ReportKind.CONVERSATION_ANALYTICS: "Conversations of a period",
    ReportKind.PERFORMANCE: "Tasks of a period",
    ReportKind.WEEKLY_WORKFLOWS: "Workflows of a week",
}
REQUESTS: Final = (
    ("Request: conversations of a day", {"kind": "conversations", "hours": 24}),
    ("Request: conversations of a week", {"kind": "conversations", "hours": 168}),
    ("Request: tasks of a day", {"kind": "performance", "hours": 24}),
)
"""The reports that can be requested here: the text of the button, and the body of the request."""


@router.get("", dependencies=[OnlyKnown])
async def show_reports(
    request: Request,
    services: ServicesDep,
    kind: Annotated[ReportKind | Literal[""], Query()] = "",
    before: Annotated[Timestamp | None, Query()] = None,
) -> Response:
    """Reports, newest first."""
    values = partial(_list_values, services, kind, before)
    return await pages.show(request, "reports.html", values, live=before is None)


@router.get("/{report_id:path}", dependencies=[OnlyKnown])
async def show_report_page(report_id: ReportId, request: Request, services: ServicesDep) -> Response:
    """A report."""
    return await pages.show(request, "report.html", partial(_values, services, report_id), live=False)


def _list_values(services: Services, kind: str, before: Any) -> Mapping[str, Any]:
    reports = services.analytics.reports(kind or None, limit=PAGE, before=clock.aware(before))
    return {
        "reports": reports,
        "next": reports[-1].created_at.isoformat() if len(reports) == PAGE else None,
        "before": before,
        "kind": kind,
        "titles": TITLES,
        "requests": REQUESTS if current_caller().may(Scope.SUBMIT) else (),
    }


def _values(services: Services, id: str) -> Mapping[str, Any]:
    report = services.analytics.report(id)
    figures = _figures(report)
    return {
        "report": report,
        "title": TITLES.get(report.kind, report.kind),
        "figures": figures,
        "data": shown_value(report.data),
        "is_task": bool(services.tasks.runs([report.id])),
        "bars": _bars(figures),
        "width": WIDTH,
        "height": HEIGHT,
        **rights(),
    }


def _figures(report: ReportResponse) -> Figures | None:
    """The figures of a report; None if another version of the application computed others."""
    model = FIGURES.get(report.kind)
    try:
        return model.model_validate(report.data) if model else None
    except ValidationError:
        return None


def _bars(figures: Figures | None) -> Any:
    if not isinstance(figures, ConversationAnalytics):
        return []
    return bars([(day.day, {"messages": day.customer_messages, "replies": day.replies}) for day in figures.days])
