"""Tasks that keep the platform itself in order, run by the clock."""

from __future__ import annotations

from typing import Any

from app.core import catalog, clock
from app.schemas.job import AlertsOpened, Nothing
from app.tasks.base import PlatformTask, task


@task(catalog.CLEANUP)
def cleanup_old_data_task(self: PlatformTask, _payload: Nothing) -> dict[str, Any]:
    """Delete what is older than its retention, in batches; the counts are the result."""
    return dict(self.services.retention.sweep(now=clock.now(), progress=self.progress))


@task(catalog.HEALTH_SWEEP)
def health_sweep_task(self: PlatformTask, _payload: Nothing) -> dict[str, Any]:
    """Open and close alerts."""
    return self.services.alerts.sweep()


@task(catalog.ALERT_MAIL)
def send_alert_mail_task(self: PlatformTask, payload: AlertsOpened) -> dict[str, Any]:
    """Write e-mails about alerts, each recipient once."""
    return self.services.alert_mail.tell(payload, task_id=self.id, step=self.step)


@task(catalog.FOLLOW_UPS)
def queue_follow_ups_task(self: PlatformTask, _payload: Nothing) -> dict[str, Any]:
    """Queue a reminder for each conversation whose customer has been silent too long."""
    return {"queued": self.services.conversations.queue_follow_ups()}
