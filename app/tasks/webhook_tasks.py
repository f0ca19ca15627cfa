"""Tasks of inbound and outbound webhooks."""

from __future__ import annotations

from typing import Any

from app.schemas.outbound_events import PLATFORM_EVENTS
from app.schemas.webhook import StoredDelivery
from app.services.container import services
from laneway import task
from laneway.platform.webhooks.tasks import register_delivery_task


@task(queue="webhooks", internal=True)
def process_facebook_webhook_task(payload: StoredDelivery) -> dict[str, Any]:
    """Turn a stored Facebook delivery into events, each with its follow-up task."""
    return services().webhook_events.process(payload.delivery_id)


@task(queue="webhooks", internal=True)
def process_google_webhook_task(payload: StoredDelivery) -> dict[str, Any]:
    """Turn a stored Google lead form into its event and follow-up task."""
    return services().webhook_events.process(payload.delivery_id)


@task(queue="webhooks", internal=True)
def process_generic_webhook_task(payload: StoredDelivery) -> dict[str, Any]:
    """Turn a stored delivery of any other source into events, each with its follow-up task."""
    return services().webhook_events.process(payload.delivery_id)


send_webhook_response_task = register_delivery_task(
    queue="webhooks", name="send_webhook_response_task", reserved_events=PLATFORM_EVENTS
)
