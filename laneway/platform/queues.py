"""Queues, their lanes, the workers that serve them, and priorities.

An application declares its queues once, with `declare_queues`. All other code reads `queues`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from random import random
from typing import Final

from laneway.platform.errors import ConfigError


class Priority(IntEnum):
    """The priority of a task within its queue."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


class Lane(StrEnum):
    """The priority class of a queue."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


LANE_WEIGHTS: Final = {Lane.HIGH: 6, Lane.MEDIUM: 3, Lane.LOW: 1}
"""Of ten tasks that a worker takes while all lanes have work, this many come from each lane, unless LANE_WEIGHTS says
something else."""
LANE_CLASSES: Final = {Lane.HIGH: 1, Lane.MEDIUM: 2, Lane.LOW: 3}
"""In a strict order, a lane waits while one with a lower number has work."""


DEFAULT_QUEUE: Final = "default"
"""The name of the queue for tasks that name none."""


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """A worker process and the queues that it serves."""

    name: str
    queues: tuple[str, ...]
    concurrency: int | None = None
    """None: WORKER_CONCURRENCY."""


class Queues(Mapping[str, Lane]):
    """Queue → lane, for the queues that the application declared, in the order of declaration."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self.workers: tuple[WorkerGroup, ...] = ()

    def __getitem__(self, name: str) -> Lane:
        return self._lanes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lanes)

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def default(self) -> str:
        """The queue of tasks that name none: the one called "default", or else the last declared one.

        `@task` refuses a task without a queue where the choice is not plain: several queues, and none called "default".
        So the last one is for tasks of plain Celery, where it does not delay more urgent tasks. While no queue is
        declared, as in a test of a task, it is "default" as well.
        """
        return DEFAULT_QUEUE if DEFAULT_QUEUE in self._lanes or not self._lanes else list(self._lanes)[-1]

    def declare(self, lanes: Mapping[str, Lane], workers: Sequence[WorkerGroup]) -> None:
        """Replace the declared queues and workers. Raises ConfigError for a worker of an undeclared queue."""
        for group in workers:
            unknown = [queue for queue in group.queues if queue not in lanes]
            if unknown:
                raise ConfigError(f"The worker {group.name!r} serves {unknown[0]!r}, which is not a declared queue.")
        self._lanes, self.workers = dict(lanes), tuple(workers)

    def worker(self, name: str) -> WorkerGroup:
        """The worker group of this name. Raises ConfigError."""
        for group in self.workers:
            if group.name == name:
                return group
        known = ", ".join(group.name for group in self.workers)
        raise ConfigError(f"There is no worker {name!r}; there are {known}.")


queues: Final = Queues()
"""The queues of this process's application."""


def declare_queues(lanes: Mapping[str, Lane], *, workers: Sequence[WorkerGroup] = ()) -> None:
    """Declare the application's queues and the workers that serve them. Default: one worker that serves all queues."""
    queues.declare(lanes, workers or (WorkerGroup("worker", tuple(lanes)),))


class LaneCycle:
    """Draws the order in which a worker polls its queues: a new random order each time, weighted by lane.

    With one queue in each lane, that of the lane HIGH comes first six times out of ten, and no lane starves. kombu's
    Redis transport takes this class as `queue_order_strategy`; the method names are kombu's.
    """

    def __init__(self, items: Iterable[str] | None = None) -> None:
        self.items = list(items or ())

    def update(self, items: Iterable[str]) -> None:
        """Set the queues that are consumed from."""
        self.items[:] = items

    def consume(self, n: int) -> list[str]:
        """The next `n` queues, by weighted sampling without replacement (Efraimidis and Spirakis)."""
        draws = {name: random() ** (1 / _weight(name)) for name in self.items}
        return sorted(draws, key=draws.__getitem__, reverse=True)[:n]

    def rotate(self, last_used: str) -> None:
        """Do nothing: the next order is drawn anew."""


def _weight(queue: str) -> int:
    return LANE_WEIGHTS[queues.get(queue, Lane.LOW)]
