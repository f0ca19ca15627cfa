"""The task that delivers outbound webhooks. An application registers it on a queue of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from laneway.platform.current import current_platform
from laneway.platform.execution.context import Context
from laneway.platform.execution.task import PlatformTask
from laneway.platform.task_decorator import task
from laneway.platform.webhooks.outbound_webhooks import EndpointBusy
from laneway.platform.webhooks.reserved_events import DELIVERY_ROLE, reserve_events
from laneway.platform.webhooks.sender import OUTBOUND_SCHEDULE
from laneway.schemas.outbound_webhook import OutboundWebhook


def deliver_webhook_task(ctx: Context, payload: OutboundWebhook) -> dict[str, Any]:
    """Sign and POST one event. A failed delivery is retried on the schedule of Standard Webhooks."""
    ctx.progress(10, f"posting {payload.event}")
    try:
        receipt = current_platform().outbound_webhooks.deliver(payload, delivery_id=ctx.id, attempt=ctx.attempt)
    except EndpointBusy as busy:
        ctx.snooze(busy.delay, str(busy))
    return {"status": receipt.status, "duration_ms": receipt.duration_ms, "url": receipt.url}


def register_delivery_task(
    *, queue: str, name: str = "deliver_webhook_task", reserved_events: Iterable[str] = ()
) -> PlatformTask:
    """Register the task that delivers outbound webhooks on this queue, under this name.

    `reserved_events`: the events that only the application itself may send. The API refuses them from callers.
    """
    reserve_events(reserved_events)
    retries = len(OUTBOUND_SCHEDULE)
    return task(queue=queue, name=name, role=DELIVERY_ROLE, retries=retries, delays=OUTBOUND_SCHEDULE)(
        deliver_webhook_task
    )
