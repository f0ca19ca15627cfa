"""Queues, the lanes they belong to, and priorities."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from random import random
from typing import Final


class Priority(IntEnum):
    """How urgent a task is within its queue."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


class Lane(StrEnum):
    """How urgent a queue is beside the others."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


QUEUES: Final[dict[str, Lane]] = {
    "conversations": Lane.HIGH,
    "webhooks": Lane.MEDIUM,
    "crm": Lane.MEDIUM,
    "documents": Lane.MEDIUM,
    "workflows": Lane.MEDIUM,
    "dev": Lane.MEDIUM,
    "qa": Lane.MEDIUM,
    "fix": Lane.MEDIUM,
    "deploy": Lane.MEDIUM,
    "analytics": Lane.LOW,
    "maintenance": Lane.LOW,
}

ENGINE, ENGINE_RESULTS = "laneway:Transport", "laneway:ResultBackend"
ENGINE_PREFORK, ENGINE_CONSUMER = "laneway.prefork:TaskPool", "laneway.consuming:Consumer"
"""What Celery's settings call the delivery engine."""

PRIORITY_STEPS: Final = (0, 3, 6, 9)
"""The steps in kombu's Redis transport, where 0 goes first."""

LANE_WEIGHTS: Final = {Lane.HIGH: 6, Lane.MEDIUM: 3, Lane.LOW: 1}


class LaneCycle:
    """The order in which a worker asks its queues: drawn anew each time, weighted by lane.

    A high lane is asked first six times out of ten, and none is starved. kombu's Redis transport takes
    it as `queue_order_strategy`; the method names are kombu's.
    """

    def __init__(self, items: Iterable[str] | None = None) -> None:
        self.items = list(items or ())

    def update(self, items: Iterable[str]) -> None:
        """The queues that are consumed from."""
        self.items[:] = items

    def consume(self, n: int) -> list[str]:
        """All queues, in the order to ask them now (Efraimidis and Spirakis, weighted sampling without replacement)."""
        draws = {name: random() ** (1 / _weight(name)) for name in self.items}
        return sorted(draws, key=draws.__getitem__, reverse=True)[:n]

    def rotate(self, last_used: str) -> None:
        """Nothing to remember: the next order is drawn anew."""


def _weight(queue: str) -> int:
    return LANE_WEIGHTS[QUEUES.get(queue, Lane.LOW)]
