"""What Beat submits for the library in a project whose Celery app the library makes."""

from __future__ import annotations

from typing import Final

from celery.schedules import crontab

from laneway.platform.queues import queues
from laneway.platform.schedules.entry import Schedule

ALERTS_TASK: Final = "laneway.alerts"
CLEANUP_TASK: Final = "laneway.cleanup"


def library_schedules() -> tuple[Schedule, ...]:
    """The alerts every minute, the clean-up once a day."""
    return (
        Schedule(ALERTS_TASK, ALERTS_TASK, crontab(), queues.default, expires=50),
        Schedule(CLEANUP_TASK, CLEANUP_TASK, crontab(minute=0, hour=3), queues.default, expires=21_600),
    )
