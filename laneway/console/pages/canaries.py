"""The canaries: how long a small task takes through each queue now and lately, and what to do when one is late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.console.rendering import PageRoute, Pages
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.errors import PlatformError
from laneway.platform.library_schedules import canary_key
from laneway.platform.platform import Platform
from laneway.platform.probes import canaries
from laneway.platform.probes.canaries import CanaryReading
from laneway.platform.queues import Lane
from laneway.platform.queues import queues as declared
from laneway.schemas.waiting import Cause

router = APIRouter(
    prefix="/console/canaries", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
navigation = (NavigationEntry("Canaries", "/console/canaries", "y"),)
pages = Pages()

RANGES: Final = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
RangeName = Literal["1h", "24h", "7d"]
MOST: Final = 200
"""Queues that are shown."""
MOST_EXPLAINED: Final = 5
"""Late canaries of which the page looks what they wait for."""
WIDTH, HEIGHT = 240, 28
"""Units of the chart of one queue."""


@dataclass(frozen=True, slots=True)
class Row:
    """One queue. `state`: `late`, `under way`, `ok`, `waiting` for the first one, or `off`. `lines`: SVG paths."""

    queue: str
    state: str
    reading: CanaryReading
    schedule: str
    lines: str
    least: int | None
    most: int | None
    causes: Sequence[Cause]


@router.get("", dependencies=[OnlyKnown])
async def show_canaries(
    request: Request, services: ServicesDep, range: Annotated[RangeName, Query()] = "1h"
) -> Response:
    """The queues by lane."""
    return await pages.show(request, "canaries.html", partial(_values, services, range))


def _values(services: Platform, range: str) -> Mapping[str, Any]:
    with services.database.reading() as session:
        readings = {each.queue: each for each in canaries.read(session, now=clock.now())}
    series, limit = services.queue_samples.canaries(RANGES[range]), services.settings.alerts.late_canary
    late = [each.queue for each in readings.values() if each.overdue >= limit][:MOST_EXPLAINED]
    rows = [
        _row(
            each, readings.get(each), series.get(each, ()), limit=limit, causes=_causes(services, readings, each, late)
        )
        for each in [*declared][:MOST]
    ]
    lanes = [*Lane]
    rows.sort(key=lambda row: lanes.index(declared[row.queue]))
    return {
        "lanes": [(lane.value, list(each)) for lane, each in groupby(rows, key=lambda row: declared[row.queue])],
        "late": sum(row.state == "late" for row in rows),
        "off": sum(row.state == "off" for row in rows),
        "queues": len(rows),
        "more": len(declared) > MOST,
        "most": MOST,
        "every": services.settings.probes.canary_seconds,
        "limit": limit,
        "beat_runs": services.schedule_watch.beat_runs(),
        "range": range,
        "ranges": tuple(RANGES),
    }


def _row(
    queue: str,
    reading: CanaryReading | None,
    series: Sequence[int | None],
    *,
    limit: float,
    causes: Sequence[Cause],
) -> Row:
    known = [each for each in series if each is not None]
    return Row(
        queue=queue,
        state=_state(reading, limit=limit),
        reading=reading or CanaryReading(queue),
        schedule=canary_key(queue),
        lines=lines_of(series),
        least=min(known, default=None),
        most=max(known, default=None),
        causes=causes,
    )


def _state(reading: CanaryReading | None, *, limit: float) -> str:
    if reading is None:
        return "off"
    if reading.overdue >= limit:
        return "late"
    if reading.id is not None:
        return "under way"
    return "waiting" if reading.end is None else "ok"


def _causes(
    services: Platform, readings: Mapping[str, CanaryReading], queue: str, late: Sequence[str]
) -> Sequence[Cause]:
    """What the late canary of a queue waits for."""
    id = readings[queue].id if queue in late else None
    try:
        return services.tasks.why(id).causes if id else ()
    except PlatformError:  # it has ended and is deleted
        return ()


def lines_of(points: Sequence[int | None]) -> str:
    """The path of a chart from left to right, from 0 to the largest point; a gap where there is none."""
    most = max((each for each in points if each is not None), default=0) or 1
    step, parts, is_open = WIDTH / max(1, len(points) - 1), list[str](), False
    for number, point in enumerate(points):
        if point is not None:
            x, y = round(number * step, 1), round(HEIGHT - 2 - (HEIGHT - 4) * point / most, 1)
            parts.append(f"L{x} {y}" if is_open else f"M{x} {y}h1")
        is_open = point is not None
    return "".join(parts)
