"""The task that tells one receiver about alerts. An application registers it on a queue of its own."""

from __future__ import annotations

from typing import Any, Final

from laneway.platform.alerts.notices import NOTICE_ROLE
from laneway.platform.current import current_platform
from laneway.platform.execution.context import Context
from laneway.platform.execution.task import PlatformTask
from laneway.platform.queues import Priority
from laneway.platform.task_decorator import task
from laneway.schemas.alert import AlertNotice

DELAYS: Final = (30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Seconds before each retry, the last one repeated."""
RETRIES: Final = 30
"""About a day. Then the notice is a dead letter."""


def tell_about_alerts(ctx: Context, payload: AlertNotice) -> dict[str, Any]:
    """Tell one receiver about alerts. What it took is not sent again when a crash repeats the attempt."""
    platform = current_platform()
    return ctx.step("told", platform.receivers.tell, payload, severity=platform.alerts.severities)


def register_notice_task(*, queue: str, name: str = "tell_about_alerts") -> PlatformTask:
    """Register the task that tells receivers about alerts on this queue, under this name."""
    return task(
        queue=queue,
        name=name,
        role=NOTICE_ROLE,
        internal=True,
        priority=Priority.HIGH,
        retries=RETRIES,
        delays=DELAYS,
    )(tell_about_alerts)
