"""When a waiting task probably starts and ends, from what its queue did lately.

The line moves by one with each start of a task. What counts is the time from one start to the next, of those tasks that
waited already when the one before them started: in the other times the queue could have done more.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from laneway.schemas.forecast import Forecast

NINE_OF_TEN: Final = 1.2816
"""So many standard deviations above the mean lies the value that nine of ten keep (normal distribution)."""
BLOCKS: Final = 10
SMALLEST_BLOCK: Final = 5
"""The gaps are cut into so many blocks, but into none with fewer gaps than this, to see how the pace changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What was seen lately, in seconds.

    `gaps`: from one start to the next in the queue, while tasks waited, in their order. `runs`: how long tasks of this
    name ran.
    """

    gaps: Sequence[float] = ()
    runs: Sequence[float] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a task is in its line: `ahead` tasks go before it, and it starts at `earliest` or later.

    `interval`: the seconds from one start to the next that a rate limit demands.
    """

    now: datetime
    ahead: int
    earliest: datetime
    interval: float = 0.0


def gaps_of(runs: Sequence[tuple[datetime, datetime]]) -> list[float]:
    """The seconds from one start to the next while tasks waited. `runs`: when each was ready, and when it started."""
    ordered = sorted(runs, key=lambda run: run[1])
    return [
        (started - before).total_seconds() for (_, before), (ready, started) in pairwise(ordered) if ready <= before
    ]


def forecast(place: Place, recent: Recent) -> Forecast | None:
    """The forecast of a task that waits; None if others go before it and it is not known how the line moves."""
    if place.ahead and not recent.gaps:
        return None
    mean = statistics.fmean(recent.gaps) if recent.gaps else 0.0
    spread = statistics.pstdev(recent.gaps) if recent.gaps else 0.0
    steps = place.ahead + 1
    slow = steps * _slow_gap(recent.gaps) + NINE_OF_TEN * spread * math.sqrt(steps)
    limited = place.earliest + timedelta(seconds=place.ahead * place.interval)
    half = max(limited, place.now + timedelta(seconds=place.ahead * mean))
    most = max(half, place.now + timedelta(seconds=slow))
    ends = recent.runs
    return Forecast(
        starts_p50=half,
        starts_p90=most,
        ends_p50=half + timedelta(seconds=percentile(ends, 50)) if ends else None,
        ends_p90=most + timedelta(seconds=percentile(ends, 90)) if ends else None,
        rate=round(60 / mean, 2) if mean else None,
        starts=len(recent.gaps),
    )


def forecast_of_running(started: datetime, recent: Recent, *, now: datetime) -> Forecast | None:
    """The forecast of a task that runs: when it ends, given that it has not ended yet. None: nothing is known."""
    ran = (now - started).total_seconds()
    longer = [seconds for seconds in recent.runs if seconds > ran]
    if not longer:
        return None
    return Forecast(
        starts_p50=started,
        starts_p90=started,
        ends_p50=started + timedelta(seconds=percentile(longer, 50)),
        ends_p90=started + timedelta(seconds=percentile(longer, 90)),
        starts=0,
    )


def _slow_gap(gaps: Sequence[float]) -> float:
    """The mean gap of the slowest of ten blocks."""
    size = max(SMALLEST_BLOCK, len(gaps) // BLOCKS)
    means = [statistics.fmean(gaps[start : start + size]) for start in range(0, len(gaps), size)]
    return percentile(means, 90) if means else 0.0


def percentile(values: Sequence[float], rank: int) -> float:
    """Nearest rank: of n sorted values, the one with the number ceil(n * rank / 100)."""
    return sorted(values)[max(1, math.ceil(len(values) * rank / 100)) - 1]
