"""Tasks of workflows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from app.core import catalog, clock
from app.schemas.job import WeekPeriod
from app.schemas.task import EndedTask
from app.schemas.workflow_run import CleanupPeriod, WorkflowRef, WorkflowStepRef
from app.tasks.base import PlatformTask, task


@task(catalog.WORKFLOW_STEP)
def run_workflow_step_task(self: PlatformTask, payload: WorkflowStepRef) -> dict[str, Any]:
    """Do one visit of one step, and start what follows."""
    return self.services.workflow_steps.run(payload, self)


@task(catalog.WORKFLOW_STEP_ENDED)
def settle_workflow_step_task(self: PlatformTask, payload: EndedTask) -> dict[str, Any]:
    """Settle a step whose task ended for good without doing so."""
    return self.services.workflow_steps.settle_ended(payload)


@task(catalog.WORKFLOW_STOP)
def stop_workflow_task(self: PlatformTask, payload: WorkflowRef) -> dict[str, Any]:
    """Stop what still runs of a cancelled workflow."""
    return {"stopping": self.services.workflows.stop_steps(payload.run_id)}


@task(catalog.WORKFLOW_CLEANUP)
def cleanup_old_workflows(self: PlatformTask, payload: CleanupPeriod) -> dict[str, Any]:
    """Delete workflows that ended so many days ago, with their steps."""
    before = clock.now() - timedelta(days=payload.days)
    return {"workflows": self.services.retention.clean_up_workflows(before=before, progress=self.progress)}


@task(catalog.WEEKLY_REPORT)
def generate_weekly_report(self: PlatformTask, payload: WeekPeriod) -> dict[str, Any]:
    """Compute how the workflows of a period fared; the report is kept under the task's id."""
    end = payload.end or clock.now()
    start = payload.start or end - timedelta(hours=payload.hours)
    return self.services.workflow_reports.weekly(self.id, start=start, end=end).model_dump(mode="json")
