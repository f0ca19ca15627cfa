"""A schedule, as an application's `beat_schedule.py` lists it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from celery.schedules import crontab
from pydantic import ValidationError

from laneway.platform.errors import ConfigError
from laneway.platform.queues import queues
from laneway.platform.registry import TaskRegistry
from laneway.platform.schedules.celery_times import times_of
from laneway.platform.schedules.definition import Definition, problems_of
from laneway.schemas.schedule import DEFAULT_WINDOW, MAX_KEY, Missed, Overlap

POLICY: Final = "laneway"
"""The key of an entry of Celery's setting with what only this platform's scheduler knows."""


class BadSchedule(ConfigError):
    """A schedule submits a task that cannot run."""

    template = "The schedule {key!r} cannot work: {problem}"
    key: str
    problem: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """One task that Beat submits at fixed times."""

    key: str
    task: str
    when: crontab | timedelta
    """A crontab in `timezone`, or the time between two firings, counted from `start` or from 1970-01-01."""
    queue: str
    expires: int
    """Seconds after which a submission that has not started is dropped; the next one does its work."""
    kwargs: dict[str, Any] | None = None
    timezone: str = "UTC"
    """The IANA time zone of the crontab."""
    start: datetime | None = None
    """There is no firing before this time."""
    end: datetime | None = None
    """There is no firing after this time."""
    jitter: float = 0
    """Most seconds by which a firing is delayed. Each firing has a delay of its own, the same for every scheduler."""
    missed: Missed = Missed.ONCE
    """Firings that came due while no scheduler could act: left out, the last one sent, or all of `window`."""
    window: float = DEFAULT_WINDOW
    """Seconds that `Missed.ALL` looks back."""
    overlap: Overlap = Overlap.ALLOW
    """What happens to a firing while a task of an earlier one has not ended."""

    def as_celery(self) -> dict[str, Any]:
        """The entry of Celery's setting `beat_schedule`."""
        options = {"queue": self.queue, "expires": self.expires}
        entry = {"task": self.task, "schedule": self.when, "options": options, "kwargs": self.kwargs or {}}
        usual = Schedule("", "", self.when, "", 0)
        policy = {name: getattr(self, name) for name in _POLICY_FIELDS}
        own = {name: value for name, value in policy.items() if value != getattr(usual, name)}
        return entry | ({POLICY: own} if own else {})


_POLICY_FIELDS: Final = ("timezone", "start", "end", "jitter", "missed", "window", "overlap")


def definition_of(key: str, entry: dict[str, Any]) -> Definition:
    """Return what an entry of Celery's setting `beat_schedule` submits, and when. Raises BadSchedule."""
    if len(key) > MAX_KEY:
        raise BadSchedule(key, f"its key is longer than {MAX_KEY} characters.")
    options = dict[str, Any](entry.get("options") or {})
    kept = {name: options[name] for name in ("queue", "expires") if options.get(name) is not None}
    try:
        return Definition(
            task=entry["task"],
            payload=dict(entry.get("kwargs") or {}),
            **times_of(entry["schedule"]),
            **kept,
            **entry.get(POLICY, {}),
        )
    except ValidationError as error:
        raise BadSchedule(key, f"{problems_of(error)}.") from None
    except (ValueError, TypeError, LookupError) as error:
        raise BadSchedule(key, f"{error}.") from error


def check_schedules(schedules: Iterable[Schedule], registry: TaskRegistry) -> None:
    """Raise BadSchedule for an unregistered task, an undeclared queue, or arguments that do not match the payload.

    So it does for times and policies that cannot be kept.
    """
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
        definition_of(schedule.key, schedule.as_celery())
