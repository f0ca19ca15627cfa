"""What a batch of recorded events adds to the counters of its queue (`laneway.engine.event_counts`).

| counter | |
|---|---|
| `enqueued` | tasks that were put into the queue, also again: retried by hand, or requeued as a dead letter |
| `started` | attempts that began |
| `ended:OUTCOME` | attempts that ended, by the outcome in the history |
| `finished:STATE` | tasks that reached their final state |
| `waited:MS`, `ran:MS` | durations up to so many milliseconds, and above the next smaller bound; `more`: longer |
| `waited`, `ran` | the sum of these durations, in milliseconds |

So `started` is the sum of `ended` and of what runs now, and `enqueued` that of `finished` and of what is unfinished.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from laneway.engine import Event, EventKind
from laneway.engine.event_counts import IF_KNOWN, Counts
from laneway.engine.journal import START, cursor_order
from laneway.platform.db.models import TaskAttempt, TaskRun
from laneway.platform.registry import registry
from laneway.schemas.task import FINISHED

BOUNDS: Final = (
    *(5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000),
    *(300_000, 900_000, 3_600_000, 21_600_000),
)
"""The bounds between which durations are counted, in milliseconds."""
MORE: Final = "more"
"""The bound of durations that are longer than the last one."""


class EventCounter:
    """Counts the events of one batch, in their order."""

    def __init__(self) -> None:
        self._counted: list[tuple[str, str, str, int]] = []
        """Cursor of the event, label, counter, number."""

    def note(self, run: TaskRun, event: Event, *, was_finished: bool, ended: TaskAttempt | None) -> None:
        """Count an event that changed this row. `ended`: the attempt that it has ended.

        A process that does not know the task, because it is of an earlier version, counts it as those that do.
        """
        label = registry.current_name(run.name) if run.name in registry else IF_KNOWN + run.name
        for counter, number in _counts_of(run, event, was_finished=was_finished, ended=ended):
            self._counted.append((event.cursor, label, counter, number))

    def extend(self, other: EventCounter) -> None:
        """Add what another counter has counted of later events."""
        self._counted += other._counted

    def counts(self, *, after: str = START) -> Counts:
        """What the events after this cursor add."""
        order, found = cursor_order(after), Counter[tuple[str, str]]()
        for cursor, label, counter, number in self._counted:
            if after == START or cursor_order(cursor) > order:
                found[label, counter] += number
        return found


def _counts_of(
    run: TaskRun, event: Event, *, was_finished: bool, ended: TaskAttempt | None
) -> Iterator[tuple[str, int]]:
    if event.kind in (EventKind.PUT, EventKind.REQUEUE):
        yield "enqueued", 1
    elif event.kind is EventKind.START:
        yield "started", 1
        if run.ready_at is not None and run.started_at is not None:
            yield from _duration("waited", run.ready_at, run.started_at)
    if ended is not None and ended.ended_at is not None:
        yield f"ended:{ended.outcome}", 1
        if event.kind is not EventKind.LOST:  # nobody knows how long a lost attempt has run
            yield from _duration("ran", ended.started_at, ended.ended_at)
    if run.state in FINISHED and not was_finished:
        yield f"finished:{run.state}", 1


def _duration(counter: str, start: datetime, end: datetime) -> Iterator[tuple[str, int]]:
    milliseconds = max(0, round((end - start).total_seconds() * 1000))  # two clocks may have written the times
    index = bisect_left(BOUNDS, milliseconds)
    yield f"{counter}:{BOUNDS[index] if index < len(BOUNDS) else MORE}", 1
    yield counter, milliseconds
