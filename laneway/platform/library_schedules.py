"""What Beat submits for the library: canaries everywhere, the rest where the library makes the Celery app."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from celery.schedules import crontab

from laneway.platform.queues import queues
from laneway.platform.schedules.entry import Schedule
from laneway.schemas.schedule import Missed, Overlap

ALERTS_TASK: Final = "laneway.alerts"
CLEANUP_TASK: Final = "laneway.cleanup"
CANARY: Final = "laneway.canary"
"""A small task that is sent through each queue. Lists and statistics leave it out unless they ask for it by name."""
CANARY_EXPIRES: Final = 1800
"""Seconds after which a canary that has not started is given up, for the next one. It is less than
TASK_HAND_ON_SECONDS, so that older workers, which do not know canaries, make no dead letters of them.
"""
SPREAD: Final = 0.5
"""The canaries of all queues come within this part of the interval, and not at the same moment."""


def library_schedules() -> tuple[Schedule, ...]:
    """The alerts every minute, the clean-up once a day."""
    return (
        Schedule(ALERTS_TASK, ALERTS_TASK, crontab(), queues.default, expires=50),
        Schedule(CLEANUP_TASK, CLEANUP_TASK, crontab(minute=0, hour=3), queues.default, expires=21_600),
    )


def canary_schedules(seconds: int) -> Iterator[Schedule]:
    """One schedule for each declared queue, with so many seconds between two canaries; 0: none.

    At most one canary of a queue is under way: a firing is left out while the one before has not ended.
    """
    for queue in queues if seconds else ():
        yield Schedule(
            canary_key(queue),
            CANARY,
            timedelta(seconds=seconds),
            queue,
            CANARY_EXPIRES,
            {"queue": queue},
            jitter=round(seconds * SPREAD),
            missed=Missed.SKIP,
            overlap=Overlap.SKIP,
        )


def canary_key(queue: str) -> str:
    """The key of the schedule that sends the canaries of a queue."""
    return f"{CANARY}.{queue}"
