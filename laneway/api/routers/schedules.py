"""Schedules: list, make, change, pause, resume, run at once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, OnlyKnown, ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.scopes import Scope
from laneway.platform.platform import Platform
from laneway.platform.schedules.definition import checked
from laneway.platform.schedules.schedules import preview
from laneway.platform.schedules.views import describe, describe_whole
from laneway.schemas.schedule import (
    RunResponse,
    ScheduleDefinition,
    SchedulePreview,
    ScheduleRequest,
    SchedulesResponse,
    ScheduleSummary,
    ScheduleView,
)

router = APIRouter(prefix="/schedules", tags=["schedules"], route_class=ThreadedRoute)

Key = Annotated[str, Path(min_length=1, max_length=100, pattern=NO_NULL, examples=["reports.nightly"])]
Reads, Operates = requires(Scope.READ), requires(Scope.SCHEDULES)


@router.get("", dependencies=[Reads, OnlyKnown], responses=problems())
def list_schedules(services: ServicesDep) -> SchedulesResponse:
    """List the schedules of the application's code and of operators, by key."""
    rows = services.schedules.listing()
    return SchedulesResponse(schedules=[describe(row) for row in rows], beat_runs=services.schedule_watch.beat_runs())


@router.post(
    "", status_code=201, dependencies=[Operates], response_description="Made", responses=problems(403, 404, 409)
)
def create_schedule(body: ScheduleRequest, services: ServicesDep) -> ScheduleSummary:
    """Make a schedule. It is due from now on. The caller must be allowed to submit the task."""
    return describe(services.schedules.create(body.key, checked(body)))


@router.post("/preview", dependencies=[Operates], responses=problems(403, 404))
def preview_schedule(body: ScheduleRequest, services: ServicesDep) -> SchedulePreview:
    """Check a schedule as `POST /schedules` does, and say when it would fire. Nothing is stored.

    It may have the key of a schedule that exists.
    """
    del services
    definition = checked(body)
    return SchedulePreview(when=definition.when, upcoming=preview(body.key, definition))


@router.get("/{key}", dependencies=[Reads], responses=problems(404))
def show_schedule(key: Key, services: ServicesDep) -> ScheduleView:
    """Show one schedule with its next ten and last ten firings."""
    return _whole(services, key)


@router.put("/{key}", dependencies=[Operates], responses=problems(403, 404, 409))
def change_schedule(key: Key, body: ScheduleDefinition, services: ServicesDep) -> ScheduleSummary:
    """Replace what a schedule submits, and when. With new times it is due from now on.

    A schedule of the application's code is changed there.
    """
    return describe(services.schedules.change(key, checked(body)))


@router.delete("/{key}", dependencies=[Operates], responses=problems(404, 409))
def delete_schedule(key: Key, services: ServicesDep) -> ScheduleSummary:
    """Delete a schedule; returns it as it was. The tasks that it has sent stay."""
    return describe(services.schedules.delete(key))


@router.post("/{key}/pause", dependencies=[Operates], responses=problems(404))
def pause_schedule(key: Key, services: ServicesDep) -> ScheduleSummary:
    """Pause a schedule. It sends nothing until it is resumed, also after a restart or a change of the code."""
    return describe(services.schedules.pause(key))


@router.post("/{key}/resume", dependencies=[Operates], responses=problems(404))
def resume_schedule(key: Key, services: ServicesDep) -> ScheduleSummary:
    """Resume a schedule. What came due during the pause is not made up."""
    return describe(services.schedules.resume(key))


@router.post("/{key}/run", status_code=202, dependencies=[Operates], responses=problems(403, 404, 409))
def run_schedule(
    key: Key,
    services: ServicesDep,
    beside: Annotated[
        bool, Query(description="Run at once although an earlier task has not ended, whatever `overlap` says")
    ] = False,
) -> RunResponse:
    """Submit the task of a schedule at once. Its due times stay as they are.

    While an earlier task has not ended, `overlap` holds: with `skip` the answer is 409, `replace` cancels the earlier
    task, and with `queue` the new one waits for it.
    """
    return RunResponse(task_id=services.schedules.run(key, beside=beside))


def _whole(services: Platform, key: str) -> ScheduleView:
    return describe_whole(*services.schedules.show(key))
