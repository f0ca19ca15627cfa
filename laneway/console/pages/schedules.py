"""The schedules: those of the code and of operators, and one with its next and last firings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from zoneinfo import available_timezones

from fastapi import APIRouter, Request
from starlette.responses import Response

from laneway._masking import HIDDEN
from laneway.api.access import requires
from laneway.api.deps import OnlyKnown, ServicesDep
from laneway.api.navigation import NavigationEntry
from laneway.api.routers.schedules import Key
from laneway.console.rendering import PageRoute, Pages
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.platform import Platform
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry
from laneway.platform.schedules.schedules import OfTheCode
from laneway.platform.schedules.views import describe, describe_whole
from laneway.schemas.choices import PriorityName
from laneway.schemas.schedule import Overlap, ScheduleDefinition, ScheduleSource

router = APIRouter(prefix="/console/schedules", include_in_schema=False, route_class=PageRoute)
navigation = (NavigationEntry("Schedules", "/console/schedules", "e"),)
pages = Pages()
READS, CHANGES = requires(Scope.READ), requires(Scope.SCHEDULES)
MISSED: Final = (("once", "send the last one"), ("skip", "leave them out"), ("all", "send all of the last …"))
OVERLAP: Final = (
    ("allow", "run both"),
    ("skip", "leave the new firing out"),
    ("queue", "run the new one afterwards"),
    ("replace", "cancel the earlier task"),
)


@router.get("", dependencies=[READS, OnlyKnown])
async def show_schedules(request: Request, services: ServicesDep) -> Response:
    """The schedules by key."""
    return await pages.show(request, "schedules.html", partial(_schedules, services))


@router.get("/-/new", dependencies=[CHANGES, OnlyKnown])
async def show_new_schedule(request: Request, services: ServicesDep) -> Response:
    """The form of a new schedule."""
    return await pages.show(request, "schedule_form.html", partial(_form, services, None), live=False)


@router.get("/{key}/change", dependencies=[CHANGES, OnlyKnown])
async def show_schedule_change(key: Key, request: Request, services: ServicesDep) -> Response:
    """The form with which a schedule is changed."""
    return await pages.show(request, "schedule_form.html", partial(_form, services, key), live=False)


@router.get("/{key}", dependencies=[READS, OnlyKnown])
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
        "may_operate": current_caller().may(Scope.SCHEDULES),
    }


def _form(services: Platform, key: str | None) -> Mapping[str, Any]:
    """`key`: of the schedule that is changed; None: of a new one."""
    caller = current_caller()
    found: ScheduleDefinition | None = None
    if key is not None:
        schedule = describe_whole(*services.schedules.show(key))
        if schedule.source is not ScheduleSource.OPERATOR:
            raise OfTheCode(key)
        found = schedule.definition if caller.may(Scope.READ) else None
    names = (name for name in registry if not registry.is_internal(name) and caller.may_submit(name))
    return {
        "key": key,
        "is_hidden": key is not None and found is None,
        "given": found or ScheduleDefinition.model_construct(task=""),
        "hidden": HIDDEN,
        "tasks": sorted(names),
        "queues": list(declared),
        "zones": sorted(available_timezones()),
        "priorities": [each.value for each in PriorityName],
        "missed": MISSED,
        "overlap": OVERLAP,
    }


def _schedule(services: Platform, key: str) -> Mapping[str, Any]:
    schedule = describe_whole(*services.schedules.show(key))
    return {
        "schedule": schedule,
        "overlaps": schedule.definition.overlap if schedule.definition else Overlap.ALLOW,
        "is_own": schedule.source is ScheduleSource.OPERATOR,
        "beat_runs": services.schedule_watch.beat_runs(),
        "may_operate": current_caller().may(Scope.SCHEDULES),
    }
