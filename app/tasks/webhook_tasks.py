"""Tasks of webhooks, in and out."""

from __future__ import annotations

from typing import Any

from app.core import catalog
from app.core.errors import DatabaseUnavailable
from app.schemas.job import OutboundWebhook, StoredDelivery
from app.services.callback_sending import OUTBOUND_SCHEDULE
from app.services.callbacks import EndpointBusy
from app.tasks.base import PlatformTask, task


@task(catalog.FACEBOOK_WEBHOOK)
def process_facebook_webhook_task(self: PlatformTask, payload: StoredDelivery) -> dict[str, Any]:
    """Turn a stored Facebook delivery into events, each with its follow-up task."""
    return self.services.webhooks.process(payload.delivery_id)


@task(catalog.GOOGLE_WEBHOOK)
def process_google_webhook_task(self: PlatformTask, payload: StoredDelivery) -> dict[str, Any]:
    """Turn a stored Google lead form into its event and follow-up task."""
    return self.services.webhooks.process(payload.delivery_id)


@task(catalog.GENERIC_WEBHOOK)
def process_generic_webhook_task(self: PlatformTask, payload: StoredDelivery) -> dict[str, Any]:
    """Turn a stored delivery of any other source into its event and follow-up task."""
    return self.services.webhooks.process(payload.delivery_id)


@task(catalog.SEND_WEBHOOK, schedule=OUTBOUND_SCHEDULE)
def send_webhook_response_task(self: PlatformTask, payload: OutboundWebhook) -> dict[str, Any]:
    """Sign and POST one event; failed deliveries follow the schedule of Standard Webhooks."""
    self.progress(10, f"posting {payload.event}")
    try:
        receipt = self.services.callbacks.deliver(payload, delivery_id=self.id, attempt=self.attempt)
    except EndpointBusy as busy:
        self.snooze(busy.delay, str(busy))
    except DatabaseUnavailable as away:  # nothing was sent: it is no attempt
        self.snooze(away.retry_after, "the database is away")
    return {"status": receipt.status, "duration_ms": receipt.duration_ms, "url": receipt.url}
