"""The library's own tasks in a project whose Celery app the library makes: importing this module registers them."""

from __future__ import annotations

from typing import Any

from laneway.platform import clock
from laneway.platform.alerts.notices import NOTICE_ROLE
from laneway.platform.alerts.tasks import register_notice_task
from laneway.platform.current import current_platform
from laneway.platform.execution.context import Context
from laneway.platform.execution.wake_task import register_wake_task
from laneway.platform.library_schedules import ALERTS_TASK, CLEANUP_TASK
from laneway.platform.project_file import WORKFLOW_QUEUE
from laneway.platform.queues import queues
from laneway.platform.registry import registry
from laneway.platform.submission.wakes import WAKE_ROLE
from laneway.platform.task_decorator import task
from laneway.platform.webhooks.reserved_events import DELIVERY_ROLE
from laneway.platform.webhooks.tasks import register_delivery_task
from laneway.platform.workflows.tasks import register_workflow_tasks
from laneway.platform.workflows.transitions import STEP_ROLE


@task(queue=queues.default, name=ALERTS_TASK, retries=0)
def open_and_close_alerts() -> dict[str, Any]:
    """Open and close alerts."""
    return current_platform().alerts.sweep()


@task(queue=queues.default, name=CLEANUP_TASK)
def delete_old_data(ctx: Context) -> dict[str, Any]:
    """Delete data that is older than its retention; the result counts the rows."""
    return dict(current_platform().retention.sweep(now=clock.now(), progress=ctx.progress))


if not registry.has_role(DELIVERY_ROLE):  # the project may have registered its own
    register_delivery_task(queue=queues.default)
if not registry.has_role(NOTICE_ROLE):
    register_notice_task(queue=queues.default)
if not registry.has_role(WAKE_ROLE):
    register_wake_task(queue=queues.default)
if WORKFLOW_QUEUE in queues and not registry.has_role(STEP_ROLE):
    register_workflow_tasks(queue=WORKFLOW_QUEUE)
