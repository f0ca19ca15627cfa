"""What `laneway schedules` asks of a platform: through an API, or of the project's platform in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from laneway.client import schedule_calls

if TYPE_CHECKING:
    from laneway.client.calls import Call
    from laneway.platform.platform import Platform
    from laneway.schemas.schedule import (
        ScheduleDefinition,
        ScheduleRequest,
        SchedulesResponse,
        ScheduleSummary,
        ScheduleView,
    )


T = TypeVar("T")


class Sender(Protocol):
    """Sends calls to an API."""

    def send(self, call: Call[T]) -> T: ...


class ScheduleSource(Protocol):
    """The schedules of a platform."""

    def listing(self) -> SchedulesResponse: ...

    def show(self, key: str) -> ScheduleView: ...

    def create(self, request: ScheduleRequest) -> ScheduleSummary: ...

    def change(self, key: str, definition: ScheduleDefinition) -> ScheduleSummary: ...

    def delete(self, key: str) -> None: ...

    def pause(self, key: str) -> ScheduleSummary: ...

    def resume(self, key: str) -> ScheduleSummary: ...

    def run(self, key: str, *, beside: bool) -> str: ...


class ApiSchedules:
    """Asks the API."""

    def __init__(self, api: Sender) -> None:
        self._api = api

    def listing(self) -> SchedulesResponse:
        return self._api.send(schedule_calls.schedules())

    def show(self, key: str) -> ScheduleView:
        return self._api.send(schedule_calls.schedule(key))

    def create(self, request: ScheduleRequest) -> ScheduleSummary:
        return self._api.send(schedule_calls.create_schedule(request))

    def change(self, key: str, definition: ScheduleDefinition) -> ScheduleSummary:
        return self._api.send(schedule_calls.change_schedule(key, definition))

    def delete(self, key: str) -> None:
        self._api.send(schedule_calls.delete_schedule(key))

    def pause(self, key: str) -> ScheduleSummary:
        return self._api.send(schedule_calls.pause_schedule(key))

    def resume(self, key: str) -> ScheduleSummary:
        return self._api.send(schedule_calls.resume_schedule(key))

    def run(self, key: str, *, beside: bool) -> str:
        return self._api.send(schedule_calls.run_schedule(key, beside=beside)).task_id


class LocalSchedules:
    """Asks the services of the platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def listing(self) -> SchedulesResponse:
        from laneway.platform.schedules.views import describe
        from laneway.schemas.schedule import SchedulesResponse

        rows = self._platform.schedules.listing()
        runs = self._platform.schedule_watch.beat_runs()
        return SchedulesResponse(schedules=[describe(row) for row in rows], beat_runs=runs)

    def show(self, key: str) -> ScheduleView:
        from laneway.platform.schedules.views import describe_whole

        return describe_whole(*self._platform.schedules.show(key))

    def create(self, request: ScheduleRequest) -> ScheduleSummary:
        from laneway.platform.schedules.definition import checked
        from laneway.platform.schedules.views import describe

        return describe(self._platform.schedules.create(request.key, checked(request)))

    def change(self, key: str, definition: ScheduleDefinition) -> ScheduleSummary:
        from laneway.platform.schedules.definition import checked
        from laneway.platform.schedules.views import describe

        return describe(self._platform.schedules.change(key, checked(definition)))

    def delete(self, key: str) -> None:
        self._platform.schedules.delete(key)

    def pause(self, key: str) -> ScheduleSummary:
        from laneway.platform.schedules.views import describe

        return describe(self._platform.schedules.pause(key))

    def resume(self, key: str) -> ScheduleSummary:
        from laneway.platform.schedules.views import describe

        return describe(self._platform.schedules.resume(key))

    def run(self, key: str, *, beside: bool) -> str:
        return self._platform.schedules.run(key, beside=beside)
