"""How many messages have come into a queue and left it, for rates: `flow(queue).rates_since(earlier)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueFlow:
    """The totals of a queue at one moment (`at`: unix time in s, of the broker).

    `entered`: messages that were put, and dead letters that were requeued. `left`: messages that were acknowledged,
    cancelled, purged or buried as dead letters. The engine counts both in the step that makes the change, so the totals
    are exact over all processes and never behind. They begin at 0 again when the broker loses its data.
    """

    queue: str
    entered: int
    left: int
    at: float

    @classmethod
    def of(cls, queue: str, totals: Mapping[str, int], *, at: float) -> QueueFlow:
        """From the engine's running totals of a queue."""
        entered = totals.get("put", 0) + totals.get("requeued", 0)
        left = sum(totals.get(name, 0) for name in ("acked", "cancelled", "purged", "buried"))
        return cls(queue, entered, left, at)

    def rates_since(self, earlier: QueueFlow) -> tuple[float, float]:
        """Messages per second that have come in and that have left since then; 0 for totals that have begun again."""
        seconds = self.at - earlier.at
        if seconds <= 0:
            return 0.0, 0.0
        return max(0, self.entered - earlier.entered) / seconds, max(0, self.left - earlier.left) / seconds
