"""The tasks and schedules that the library adds to a project: workflows, outbound webhooks, clean-up, alerts."""

from __future__ import annotations

from typing import Any, Final

from celery.schedules import crontab

from laneway.platform import clock
from laneway.platform.execution.context import Context
from laneway.platform.platform import current_platform
from laneway.platform.project_file import WORKFLOW_QUEUE
from laneway.platform.queues import queues
from laneway.platform.registry import registry
from laneway.platform.schedules.entry import Schedule
from laneway.platform.task_decorator import task
from laneway.platform.webhooks.tasks import register_delivery_task
from laneway.platform.workflows.tasks import register_workflow_tasks

ALERTS_TASK: Final = "laneway.alerts"
CLEANUP_TASK: Final = "laneway.cleanup"


def open_and_close_alerts() -> dict[str, Any]:
    """Open and close alerts."""
    return current_platform().alerts.sweep()


def delete_old_data(ctx: Context) -> dict[str, Any]:
    """Delete data that is older than its retention; the result counts the rows."""
    return dict(current_platform().retention.sweep(now=clock.now(), progress=ctx.progress))


def register_library_tasks(*, with_workflows: bool) -> None:
    """Register the tasks on the declared queues. A second call changes nothing."""
    if ALERTS_TASK in registry:
        return
    task(queue=queues.default, name=ALERTS_TASK, retries=0)(open_and_close_alerts)
    task(queue=queues.default, name=CLEANUP_TASK)(delete_old_data)
    register_delivery_task(queue=queues.default)
    if with_workflows:
        register_workflow_tasks(queue=WORKFLOW_QUEUE)


def library_schedules() -> tuple[Schedule, ...]:
    """What Beat submits for the library: alerts every minute, the clean-up once a day."""
    return (
        Schedule(ALERTS_TASK, ALERTS_TASK, crontab(), queues.default, expires=50),
        Schedule(CLEANUP_TASK, CLEANUP_TASK, crontab(minute=0, hour=3), queues.default, expires=21_600),
    )
