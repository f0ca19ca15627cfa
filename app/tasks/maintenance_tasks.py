"""Scheduled maintenance tasks: retention, alerts, reminders."""

from __future__ import annotations

from typing import Any

from app.services.container import services
from laneway import Context, task
from laneway.platform import clock
from laneway.platform.operations.alerts import NOTICE_ROLE
from laneway.platform.queues import Priority
from laneway.schemas.alert import AlertsOpened


@task(queue="maintenance")
def cleanup_old_data_task(ctx: Context) -> dict[str, Any]:
    """Delete data that is older than its retention, in batches; the result counts the rows."""
    return dict(services().retention.sweep(now=clock.now(), progress=ctx.progress))


@task(queue="maintenance", retries=0)
def health_sweep_task() -> dict[str, Any]:
    """Open and close alerts."""
    return services().alerts.sweep()


@task(queue="maintenance", priority=Priority.HIGH, role=NOTICE_ROLE, internal=True)
def send_alert_mail_task(ctx: Context, payload: AlertsOpened) -> dict[str, Any]:
    """Send e-mails about alerts, one to each recipient."""
    return services().alert_mail.send(payload, task_id=ctx.id, step=ctx.step)


@task(queue="maintenance")
def queue_follow_ups_task() -> dict[str, Any]:
    """Queue a reminder for each conversation whose customer has been silent for FOLLOW_UP_AFTER_HOURS."""
    return {"queued": services().conversations.queue_follow_ups()}
