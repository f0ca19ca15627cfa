"""A schedule, as an application's `beat_schedule.py` lists it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from celery.schedules import crontab
from pydantic import ValidationError

from laneway.platform.errors import ConfigError
from laneway.platform.queues import queues
from laneway.platform.registry import TaskRegistry


class BadSchedule(ConfigError):
    """A schedule submits a task that cannot run."""

    template = "The schedule {key!r} cannot work: {problem}"
    key: str
    problem: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """One task that Beat submits at fixed times, in UTC."""

    key: str
    task: str
    when: crontab
    queue: str
    expires: int
    """Seconds after which a submission that has not started is dropped; the next one does its work."""
    kwargs: dict[str, Any] | None = None

    def as_celery(self) -> dict[str, Any]:
        """The entry of Celery's setting `beat_schedule`."""
        options = {"queue": self.queue, "expires": self.expires}
        return {"task": self.task, "schedule": self.when, "options": options, "kwargs": self.kwargs or {}}


def check_schedules(schedules: Iterable[Schedule], registry: TaskRegistry) -> None:
    """Raise BadSchedule for an unregistered task, an undeclared queue, or arguments that do not match the payload."""
    for schedule in schedules:
        spec = registry.get(schedule.task)
        if spec is None:
            raise BadSchedule(schedule.key, f"no task is registered as {schedule.task!r}.")
        if schedule.queue not in queues:
            raise BadSchedule(schedule.key, f"its queue {schedule.queue!r} is not declared.")
        try:
            spec.payload.model_validate(schedule.kwargs or {})
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, item["loc"])) or "payload" for item in error.errors())
            raise BadSchedule(schedule.key, f"its arguments do not fit {schedule.task!r}: {fields}.") from error
