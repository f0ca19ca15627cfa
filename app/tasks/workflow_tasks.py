"""Tasks of workflows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from app.schemas.analytics import WeekPeriod
from app.services.container import services
from laneway import Context, task
from laneway.platform import clock
from laneway.platform.execution.wake_task import register_wake_task
from laneway.platform.workflows.tasks import register_workflow_tasks
from laneway.schemas.workflow_run import CleanupPeriod

register_workflow_tasks(queue="workflows")
register_wake_task(queue="workflows")


@task(queue="maintenance")
def cleanup_old_workflows(ctx: Context, payload: CleanupPeriod) -> dict[str, Any]:
    """Delete workflows that ended more than `days` days ago, with their steps."""
    before = clock.now() - timedelta(days=payload.days)
    return {"workflows": services().retention.clean_up_workflows(before=before, progress=ctx.progress)}


@task(queue="analytics")
def generate_weekly_report(ctx: Context, payload: WeekPeriod) -> dict[str, Any]:
    """Compute the report on the workflows of a period; it is stored under the task's id."""
    end = payload.end or clock.now()
    start = payload.start or end - timedelta(hours=payload.hours)
    return services().workflow_reports.weekly(ctx.id, start=start, end=end).model_dump(mode="json")
