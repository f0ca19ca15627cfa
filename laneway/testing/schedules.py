"""The schedules of an application, sent when the clock of a test makes them due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import Celery

from laneway.platform.schedules.entry import definition_of
from laneway.platform.schedules.timing import Timing
from laneway.testing.clock import Clock


@dataclass
class _Entry:
    key: str
    timing: Timing
    options: dict[str, Any]
    last_sent: datetime


class Schedules:
    """Sends what Beat would send, from the moment at which it is made."""

    def __init__(self, app: Celery, clock: Clock) -> None:
        self._app, self._clock = app, clock
        self._entries = [
            _Entry(key, definition_of(key, entry).timing(key), entry, clock.now()) for key, entry in _entries(app)
        ]

    def send_due(self) -> list[str]:
        """Send each schedule that is due, once; returns their keys."""
        due = [entry for entry in self._entries if entry.timing.latest_to_act(entry.last_sent, self._clock.now())]
        for entry in due:
            options = entry.options
            task: Any = self._app.tasks[options["task"]]
            task.apply_async(options.get("args", ()), options.get("kwargs", {}), **options.get("options", {}))
            entry.last_sent = self._clock.now()
        return [entry.key for entry in due]


def _entries(app: Celery) -> list[tuple[str, dict[str, Any]]]:
    schedule: dict[str, dict[str, Any]] = app.conf.beat_schedule
    return list(schedule.items())
