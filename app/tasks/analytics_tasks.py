"""Tasks that compute reports."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from app.core import catalog, clock
from app.schemas.job import ReportPeriod
from app.tasks.base import PlatformTask, task


@task(catalog.ANALYTICS_REPORT)
def generate_conversation_analytics_task(self: PlatformTask, payload: ReportPeriod) -> dict[str, Any]:
    """Compute what happened in the conversations of a period; the report is kept under the task's id."""
    start, end = _period(payload)
    report = self.services.analytics.conversation_report(self.id, start=start, end=end)
    return report.model_dump(mode="json")


@task(catalog.PERFORMANCE_REPORT)
def generate_performance_report_task(self: PlatformTask, payload: ReportPeriod) -> dict[str, Any]:
    """Compute how the tasks of a period ran; the report is kept under the task's id."""
    start, end = _period(payload)
    report = self.services.analytics.performance_report(self.id, start=start, end=end)
    return report.model_dump(mode="json")


def _period(payload: ReportPeriod) -> tuple[datetime, datetime]:
    end = payload.end or clock.now()
    return payload.start or end - timedelta(hours=payload.hours), end
