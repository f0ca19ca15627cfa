"""Turns the counters of recorded events (`EventCounter`) into the figures of tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from laneway.engine.event_counts import Counts
from laneway.platform.history.event_counter import BOUNDS, MORE
from laneway.platform.metrics.readings import Histogram, TaskReading
from laneway.platform.registry import registry
from laneway.schemas.task import FINISHED

OUTCOMES: Final = ("completed", "retry", "snoozed", "failed", "dead_letter", "cancelled", "expired", "lost")
"""How an attempt can end (`TaskAttempt.outcome`)."""
STATES: Final = tuple(sorted(str(state) for state in FINISHED))
_LIMITS: Final = [*(f"{bound / 1000:g}" for bound in BOUNDS), "+Inf"]


def tasks_of(queue: str, counts: Counts) -> Iterator[TaskReading]:
    """Yield the tasks of a queue, by name: those that were counted, and the registered ones, whose counters begin at 0.

    A counter that begins at 0 shows its first event in a rate.
    """
    by_task: dict[str, dict[str, int]] = {name: {} for name, spec in registry.items() if spec.queue == queue}
    for (task, counter), number in counts.items():
        by_task.setdefault(task, {})[counter] = number
    for task in sorted(by_task):
        yield _task(queue, task, by_task[task])


def _task(queue: str, task: str, counters: Mapping[str, int]) -> TaskReading:
    return TaskReading(
        queue=queue,
        task=task,
        enqueued=counters.get("enqueued", 0),
        started=counters.get("started", 0),
        ended={outcome: counters.get(f"ended:{outcome}", 0) for outcome in OUTCOMES},
        finished={state: counters.get(f"finished:{state}", 0) for state in STATES},
        waited=_histogram(counters, "waited"),
        ran=_histogram(counters, "ran"),
    )


def _histogram(counters: Mapping[str, int], name: str) -> Histogram | None:
    """The durations of this name; None if there are none. A bound of another version counts to the next larger one."""
    numbers = [0] * len(_LIMITS)
    for counter, number in counters.items():
        kind, between, bound = counter.partition(":")
        if kind == name and between:
            numbers[_index(bound)] += number
    if not any(numbers):
        return None
    return Histogram(list(zip(_LIMITS, map(float, accumulate(numbers)), strict=True)), counters.get(name, 0) / 1000)


def _index(bound: str) -> int:
    if bound == MORE or not bound.isdigit():
        return len(BOUNDS)
    return next((index for index, own in enumerate(BOUNDS) if int(bound) <= own), len(BOUNDS))
