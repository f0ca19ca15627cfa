"""The schedules of an application, sent when the clock of a test makes them due."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import Celery
from celery.schedules import maybe_schedule

from laneway.testing.clock import Clock


@dataclass
class _Entry:
    key: str
    when: Any
    options: dict[str, Any]
    last_sent: datetime


class Schedules:
    """Sends what Beat would send, from the moment at which it is made."""

    def __init__(self, app: Celery, clock: Clock) -> None:
        self._app, self._clock = app, clock
        self._entries = [_Entry(key, self._when(entry), entry, clock.now()) for key, entry in _entries(app)]

    def send_due(self) -> list[str]:
        """Send each schedule that is due, once; returns their keys."""
        due = [entry for entry in self._entries if entry.when.is_due(entry.last_sent).is_due]
        for entry in due:
            options = entry.options
            task: Any = self._app.tasks[options["task"]]
            task.apply_async(options.get("args", ()), options.get("kwargs", {}), **options.get("options", {}))
            entry.last_sent = self._clock.now()
        return [entry.key for entry in due]

    def _when(self, entry: dict[str, Any]) -> Any:
        """The times of the entry, by the clock of the test."""
        when: Any = copy(maybe_schedule(entry["schedule"], app=self._app))  # that of the application keeps its clock
        when.nowfun = self._clock.now
        return when


def _entries(app: Celery) -> list[tuple[str, dict[str, Any]]]:
    schedule: dict[str, dict[str, Any]] = app.conf.beat_schedule
    return list(schedule.items())
