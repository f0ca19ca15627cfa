"""Scheduled maintenance tasks: retention, alerts, reminders."""

from __future__ import annotations

from typing import Any

from app.services.container import services
from laneway import Context, task
from laneway.platform import clock
from laneway.platform.alerts.tasks import register_notice_task


@task(queue="maintenance")
def cleanup_old_data_task(ctx: Context) -> dict[str, Any]:
    """Delete data that is older than its retention, in batches; the result counts the rows."""
    return dict(services().retention.sweep(now=clock.now(), progress=ctx.progress))


@task(queue="maintenance", retries=0)
def health_sweep_task() -> dict[str, Any]:
    """Open and close alerts."""
    return services().alerts.sweep()


tell_about_alerts_task = register_notice_task(queue="maintenance", name="tell_about_alerts_task")


@task(queue="maintenance")
def queue_follow_ups_task() -> dict[str, Any]:
    """Queue a reminder for each conversation whose customer has been silent for FOLLOW_UP_AFTER_HOURS."""
    return {"queued": services().conversations.queue_follow_ups()}
