"""When a waiting task probably starts and ends, from what its queue did within the last minutes.

Only minutes in which tasks waited count: in the others the queue could have done more. The median of their rates gives
the time that half of such tasks keep; the slowest of ten minutes gives the time that nine of ten keep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from laneway.schemas.forecast import Forecast

FEW_MINUTES: Final = 5
"""From fewer minutes than this nobody can tell how slow a slow minute is."""
SLOW: Final = 0.7
"""With few minutes, a slow minute is taken to have this part of the median rate, or less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What was seen lately.

    `rates`: tasks that ended in each minute in which others waited. `seconds`: how long the last tasks of this name
    ran.
    """

    rates: Sequence[float] = ()
    seconds: Sequence[float] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a task is in its line: `ahead` tasks go before it, and it starts at `earliest` or later.

    `interval`: the seconds from one start to the next that a rate limit demands.
    """

    now: datetime
    ahead: int
    earliest: datetime
    interval: float = 0.0


def forecast(place: Place, recent: Recent) -> Forecast | None:
    """The forecast of a task that waits; None if others go before it and no rate is known."""
    rates = [rate for rate in recent.rates if rate > 0]
    if place.ahead and not rates:
        return None
    median = percentile(rates, 50) if rates else None
    slow = _slow_rate(rates) if rates else None
    limited = place.earliest + timedelta(seconds=place.ahead * place.interval)
    half = max(limited, place.now + _minutes(place.ahead, median))
    most = max(half, place.now + _minutes(place.ahead + 1, slow))
    ends = recent.seconds
    return Forecast(
        starts_p50=half,
        starts_p90=most,
        ends_p50=half + timedelta(seconds=percentile(ends, 50)) if ends else None,
        ends_p90=most + timedelta(seconds=percentile(ends, 90)) if ends else None,
        rate=round(median, 2) if median is not None else None,
        minutes=len(rates),
    )


def forecast_of_running(started: datetime, recent: Recent, *, now: datetime) -> Forecast | None:
    """The forecast of a task that runs: when it ends, given that it has not ended yet. None: nothing is known."""
    ran = (now - started).total_seconds()
    longer = [seconds for seconds in recent.seconds if seconds > ran]
    if not longer:
        return None
    return Forecast(
        starts_p50=started,
        starts_p90=started,
        ends_p50=started + timedelta(seconds=percentile(longer, 50)),
        ends_p90=started + timedelta(seconds=percentile(longer, 90)),
        minutes=0,
    )


def percentile(values: Sequence[float], rank: int) -> float:
    """Nearest rank: of n sorted values, the one with the number ceil(n * rank / 100)."""
    return sorted(values)[max(1, math.ceil(len(values) * rank / 100)) - 1]


def _slow_rate(rates: Sequence[float]) -> float:
    slow = percentile(rates, 10)
    return min(slow, SLOW * percentile(rates, 50)) if len(rates) < FEW_MINUTES else slow


def _minutes(tasks: int, rate: float | None) -> timedelta:
    return timedelta(minutes=tasks / rate) if rate else timedelta()
