"""Tasks that compute reports."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from app.schemas.analytics import ReportPeriod
from app.services.container import services
from laneway import Context, task
from laneway.platform import clock


@task(queue="analytics")
def generate_conversation_analytics_task(ctx: Context, payload: ReportPeriod) -> dict[str, Any]:
    """Compute the report on the conversations of a period; it is stored under the task's id."""
    start, end = _period(payload)
    report = services().analytics.conversation_report(ctx.id, start=start, end=end)
    return report.model_dump(mode="json")


@task(queue="analytics")
def generate_performance_report_task(ctx: Context, payload: ReportPeriod) -> dict[str, Any]:
    """Compute the report on the tasks of a period; it is stored under the task's id."""
    start, end = _period(payload)
    report = services().analytics.performance_report(ctx.id, start=start, end=end)
    return report.model_dump(mode="json")


def _period(payload: ReportPeriod) -> tuple[datetime, datetime]:
    end = payload.end or clock.now()
    return payload.start or end - timedelta(hours=payload.hours), end
