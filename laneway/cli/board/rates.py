"""How many tasks come into a queue and leave it per second, from two looks at it.

The platform tells how many tasks of a queue ended within a window. What came in is what ended, and what the queue has
more than before. A retry stays in its queue, so that it counts neither way.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from laneway.cli.source import Figures
    from laneway.schemas.statistics import Performance
    from laneway.schemas.task import QueueFigures

WINDOW: Final = 15.0
"""Seconds over which rates are measured."""
MOST_LOOKS: Final = 600


@dataclass(frozen=True, slots=True)
class Rate:
    """Tasks per second. `arriving`: None after the first look."""

    arriving: float | None
    leaving: float


class Rates:
    """Remembers the last looks at the queues."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[str, int]]] = deque(maxlen=MOST_LOOKS)

    def of(self, found: Figures, *, at: float) -> dict[str, Rate]:
        """The rates of each queue. `at`: seconds of a clock that only goes forward."""
        held = {name: unfinished(figures) for name, figures in found.queues.items()}
        while len(self._looks) > 1 and self._looks[1][0] <= at - WINDOW:
            self._looks.popleft()
        before = self._looks[0] if self._looks else None
        self._looks.append((at, held))
        return {name: self._rate(name, found, held, before, at) for name in held}

    @staticmethod
    def _rate(
        name: str, found: Figures, held: dict[str, int], before: tuple[float, dict[str, int]] | None, at: float
    ) -> Rate:
        performance = found.window.queues.get(name)
        seconds = max(found.window.seconds, 1e-3)
        leaving = ended(performance) / seconds if performance else 0.0
        if before is None or at - before[0] < 0.5:
            return Rate(None, leaving)
        grown = (held[name] - before[1].get(name, 0)) / (at - before[0])
        return Rate(max(0.0, leaving + grown), leaving)


def unfinished(figures: QueueFigures) -> int:
    """The tasks of a queue that are not over."""
    return figures.active + figures.accepted + figures.pending + figures.scheduled


def ended(performance: Performance) -> int:
    """The tasks that ended, in whichever way."""
    return performance.completed + performance.failed + performance.dead + performance.cancelled + performance.expired
