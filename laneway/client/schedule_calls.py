"""The calls of schedules. Send them with `Client.send`."""

from __future__ import annotations

from typing import Any

from laneway.client.call_parts import adapter, part
from laneway.client.calls import Call
from laneway.schemas.schedule import (
    RunResponse,
    ScheduleDefinition,
    SchedulePreview,
    ScheduleRequest,
    SchedulesResponse,
    ScheduleSummary,
    ScheduleView,
)


def schedules() -> Call[SchedulesResponse]:
    """`GET /schedules`."""
    return Call("GET", "/schedules", adapter(SchedulesResponse))


def schedule(key: str) -> Call[ScheduleView]:
    """`GET /schedules/{key}`."""
    return Call("GET", _path(key), adapter(ScheduleView))


def create_schedule(request: ScheduleRequest) -> Call[ScheduleSummary]:
    """`POST /schedules`. A repeat finds that the schedule exists."""
    return Call("POST", "/schedules", adapter(ScheduleSummary), _json(request), repeatable=False)


def change_schedule(key: str, definition: ScheduleDefinition) -> Call[ScheduleSummary]:
    """`PUT /schedules/{key}`."""
    return Call("PUT", _path(key), adapter(ScheduleSummary), _json(definition))


def delete_schedule(key: str) -> Call[ScheduleSummary]:
    """`DELETE /schedules/{key}`. A repeat finds nothing."""
    return Call("DELETE", _path(key), adapter(ScheduleSummary), repeatable=False)


def pause_schedule(key: str) -> Call[ScheduleSummary]:
    """`POST /schedules/{key}/pause`."""
    return Call("POST", _path(key, "/pause"), adapter(ScheduleSummary))


def resume_schedule(key: str) -> Call[ScheduleSummary]:
    """`POST /schedules/{key}/resume`."""
    return Call("POST", _path(key, "/resume"), adapter(ScheduleSummary))


def run_schedule(key: str, *, beside: bool = False) -> Call[RunResponse]:
    """`POST /schedules/{key}/run`. A repeat would run it a second time.

    `beside`: also while an earlier task has not ended, whatever the schedule's policy for overlap says.
    """
    return Call("POST", _path(key, "/run?beside=true" if beside else "/run"), adapter(RunResponse), repeatable=False)


def preview_schedule(request: ScheduleRequest) -> Call[SchedulePreview]:
    """`POST /schedules/preview`: when a schedule would fire."""
    return Call("POST", "/schedules/preview", adapter(SchedulePreview), _json(request))


def _path(key: str, rest: str = "") -> str:
    return f"/schedules/{part(key)}{rest}"


def _json(model: ScheduleDefinition) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
