"""The overview: every queue now, alerts, a chart, and the same at any minute of the last seven days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from laneway.api.access import public, requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.api.parameters import Timestamp
from laneway.api.threads import read_in_thread
from laneway.console.rendering import PageRoute, Pages
from laneway.platform import clock
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.history.overview import Overview, QueueOverview
from laneway.platform.history.queue_samples import minute_of
from laneway.platform.platform import Platform
from laneway.platform.queues import Lane
from laneway.platform.registry import registry

router = APIRouter(include_in_schema=False, route_class=PageRoute)
READERS: Final = [requires(Scope.READ), OnlyKnown]
navigation = (NavigationEntry("Overview", "/console", "o"),)
pages = Pages()

RANGES: Final = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
RangeName = Literal["1h", "6h", "24h", "7d"]
LANES: Final = tuple(Lane)


@router.get("/", dependencies=[public("it only leads to the console")])
async def lead_to_console() -> Response:
    """Lead a browser to the console."""
    return RedirectResponse("/console", 307)


@router.get("/console", dependencies=READERS)
async def show_overview(
    request: Request,
    services: ServicesDep,
    range: Annotated[RangeName, Query()] = "1h",
    at: Annotated[Timestamp | Literal[""], Query()] = "",
) -> Response:
    """The overview of now, or of the minute `at`."""
    moment = minute_of(at) if at else None
    values = partial(_values, services, range, moment)
    return await pages.show(request, "overview.html", values, live=moment is None)


@router.get("/console/chart", dependencies=READERS)
async def show_chart(services: ServicesDep, range: Annotated[RangeName, Query()] = "1h") -> Response:
    """The points of the chart."""
    series = await read_in_thread(services.queue_samples.series, RANGES[range])
    return JSONResponse(asdict(series))


def _values(services: Platform, range: str, at: datetime | None) -> Mapping[str, Any]:
    overview = services.queue_samples.at(at) if at else services.overviews.now()
    minutes = round((at - clock.now()).total_seconds() / 60) if at else 0
    return {
        "overview": overview,
        "lanes": _by_lane(overview) if overview else (),
        "alerts": [] if at else services.alerts.views(),
        "unknown": [] if at else services.unknown_queues.listing(),
        "may_operate": current_caller().may(Scope.QUEUES) and services.broker.engine is not None,
        "limits": _limits,
        "named_limits": Counter(queue for queue, _ in _named_limits()),
        "range": range,
        "ranges": tuple(RANGES),
        "at": at,
        "travel_minutes": minutes,
        "params": {"range": range, "at": at.isoformat() if at else ""},
    }


def _named_limits() -> set[tuple[str, str]]:
    """Each queue with each of the limits that its tasks share with others."""
    return {(spec.queue, limit.name) for spec in registry.values() for limit in spec.flow.limits}


def _by_lane(overview: Overview) -> list[tuple[str, list[QueueOverview]]]:
    """Lane → its queues; the most urgent lane first."""

    def rank(queue: QueueOverview) -> int:
        return LANES.index(Lane(queue.lane))

    return [(LANES[lane].value, list(queues)) for lane, queues in groupby(sorted(overview.queues, key=rank), key=rank)]


def _limits(queue: QueueOverview, paused: bool) -> dict[str, Any]:
    """The body of a request that pauses a queue or lets it go on, and leaves its other limits as they are."""
    return {
        "rate": queue.rate,
        "per_seconds": queue.per_seconds,
        "max_in_flight": queue.max_in_flight,
        "paused": paused,
    }
