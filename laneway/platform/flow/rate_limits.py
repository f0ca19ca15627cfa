"""The limits of a queue (pause, rate, tasks in flight), in the units of the platform and of the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from laneway.engine import Limits, QueueStats

_MICROSECONDS = 1_000_000
BURST_SECONDS = 0.1
"""The tasks that the rate allows in this time may start at once. Otherwise a fast queue needs a round trip per task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """The limits of a queue. None: no limit."""

    rate: int | None = None
    """Tasks that may start within `per_seconds`."""
    per_seconds: float = 1.0
    max_in_flight: int | None = None
    """Tasks that workers may hold at the same time."""
    paused: bool = False
    max_wait_seconds: float | None = None
    """Tasks that have waited for longer go before all priorities."""

    @property
    def max_wait_ms(self) -> int | None:
        """The longest wait in milliseconds."""
        return None if self.max_wait_seconds is None else round(self.max_wait_seconds * 1000)

    @property
    def per_second(self) -> float | None:
        """The rate in tasks a second."""
        return None if self.rate is None else self.rate / self.per_seconds

    @property
    def burst(self) -> int:
        """The number of tasks that may start at once."""
        return max(1, math.floor((self.per_second or 0) * BURST_SECONDS))

    @property
    def for_engine(self) -> Limits:
        """The limits in the engine's terms."""
        return Limits(
            rate=self.per_second, burst=self.burst, max_in_flight=self.max_in_flight, max_wait_ms=self.max_wait_ms
        )

    def holds(self, stats: QueueStats) -> bool:
        """True when the broker enforces exactly these limits."""
        limits = stats.limits
        interval = None if self.per_second is None else max(1, round(_MICROSECONDS / self.per_second))
        burst = None if interval is None else self.burst
        found = tuple(limits.get(name) for name in ("interval", "burst", "max_in_flight", "max_wait"))
        return (stats.paused, *found) == (self.paused, interval, burst, self.max_in_flight, self.max_wait_ms)


def paused_reason(stats: QueueStats) -> str | None:
    """Return what a task waits for if its queue is paused; None if the queue is not paused."""
    return f"its queue {stats.queue!r} to be resumed: it is paused" if stats.paused else None


def in_flight_reason(stats: QueueStats) -> str | None:
    """Return what a task waits for if as many tasks of its queue run as may; None if fewer do."""
    max_in_flight = stats.limits.get("max_in_flight")
    if max_in_flight is None or stats.leased < max_in_flight:
        return None
    return f"its turn: the queue {stats.queue!r} has {stats.leased} running tasks already (max_in_flight)"


def rate_reason(stats: QueueStats, *, now: datetime) -> tuple[str, datetime] | None:
    """Return what a task waits for if its queue has used up its rate, and when the next one may start; else None."""
    interval = stats.limits.get("interval")
    if not interval:
        return None
    opens = stats.limits.get("tat", 0) - (stats.limits.get("burst", 1) - 1) * interval
    if opens <= _us(now):
        return None
    text = f"its turn: the queue {stats.queue!r} starts {_pace(interval)} (rate limit)"
    return text, datetime.fromtimestamp(opens / _MICROSECONDS, UTC)


def _pace(interval: int) -> str:
    seconds = interval / _MICROSECONDS
    return f"one task in {seconds:g} s" if seconds > 1 else f"{1 / seconds:g} tasks a second"


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * _MICROSECONDS)
