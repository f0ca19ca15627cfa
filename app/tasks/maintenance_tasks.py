"""Scheduled maintenance tasks: retention, alerts, reminders."""

from __future__ import annotations

from typing import Any

from app.services.container import services
from laneway.platform import clock
from laneway.platform.execution.task import PlatformTask, task
from laneway.platform.operations.alerts import NOTICE_ROLE
from laneway.platform.queues import Priority
from laneway.schemas.alert import AlertsOpened
from laneway.schemas.payload import EmptyPayload


@task(queue="maintenance")
def cleanup_old_data_task(self: PlatformTask, _payload: EmptyPayload) -> dict[str, Any]:
    """Delete data that is older than its retention, in batches; the result counts the rows."""
    return dict(services().retention.sweep(now=clock.now(), progress=self.progress))


@task(queue="maintenance", retries=0)
def health_sweep_task(_self: PlatformTask, _payload: EmptyPayload) -> dict[str, Any]:
    """Open and close alerts."""
    return services().alerts.sweep()


@task(queue="maintenance", priority=Priority.HIGH, role=NOTICE_ROLE)
def send_alert_mail_task(self: PlatformTask, payload: AlertsOpened) -> dict[str, Any]:
    """Send e-mails about alerts, one to each recipient."""
    return services().alert_mail.send(payload, task_id=self.id, step=self.step)


@task(queue="maintenance")
def queue_follow_ups_task(_self: PlatformTask, _payload: EmptyPayload) -> dict[str, Any]:
    """Queue a reminder for each conversation whose customer has been silent for FOLLOW_UP_AFTER_HOURS."""
    return {"queued": services().conversations.queue_follow_ups()}
