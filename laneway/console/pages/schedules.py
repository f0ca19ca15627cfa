"""The schedules: those of the code and of operators, and one with its next and last firings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.api.routers.schedules import Key
from laneway.console.rendering import PageRoute, Pages
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.platform import Platform
from laneway.platform.schedules.views import describe, describe_whole
from laneway.schemas.schedule import ScheduleSource

router = APIRouter(
    prefix="/console/schedules", include_in_schema=False, route_class=PageRoute, dependencies=[requires(Scope.READ)]
)
navigation = (NavigationEntry("Schedules", "/console/schedules", "e"),)
pages = Pages()


@router.get("", dependencies=[OnlyKnown])
async def show_schedules(request: Request, services: ServicesDep) -> Response:
    """The schedules by key."""
    return await pages.show(request, "schedules.html", partial(_schedules, services))


@router.get("/{key}", dependencies=[OnlyKnown])
async def show_schedule(key: Key, request: Request, services: ServicesDep) -> Response:
    """One schedule with its next ten and last ten firings."""
    return await pages.show(request, "schedule.html", partial(_schedule, services, key))


def _schedules(services: Platform) -> Mapping[str, Any]:
    schedules = [describe(row) for row in services.schedules.listing()]
    return {
        "schedules": schedules,
        "paused": sum(each.paused_at is not None for each in schedules),
        "troubled": sum(each.problem is not None for each in schedules),
        "beat_runs": services.schedule_watch.beat_runs(),
    }


def _schedule(services: Platform, key: str) -> Mapping[str, Any]:
    schedule = describe_whole(*services.schedules.show(key))
    return {
        "schedule": schedule,
        "is_own": schedule.source is ScheduleSource.OPERATOR,
        "beat_runs": services.schedule_watch.beat_runs(),
        "may_operate": current_caller().may(Scope.SCHEDULES),
    }
