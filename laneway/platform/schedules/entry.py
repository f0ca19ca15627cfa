"""A schedule, as an application's `beat_schedule.py` lists it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery.schedules import crontab


@dataclass(frozen=True, slots=True)
class Schedule:
    """One task that Beat submits by the clock, in UTC."""

    key: str
    task: str
    when: crontab
    queue: str
    expires: int
    """A submission that no worker has started after this many seconds is dropped: the next one does its work."""
    kwargs: dict[str, Any] | None = None

    def as_celery(self) -> dict[str, Any]:
        """The entry as Celery's setting `beat_schedule` takes it."""
        options = {"queue": self.queue, "expires": self.expires}
        return {"task": self.task, "schedule": self.when, "options": options, "kwargs": self.kwargs or {}}
