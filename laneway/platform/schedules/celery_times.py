"""Celery's schedules as fields of a definition.

A crontab of Celery is due on a day that fits its day of month and its day of week; in cron, one of them is enough. So
the day of week becomes a field of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from celery.schedules import BaseSchedule, crontab

_FIELDS: Final = (
    ("minute", range(60)),
    ("hour", range(24)),
    ("day_of_month", range(1, 32)),
    ("month_of_year", range(1, 13)),
    ("day_of_week", range(7)),
)


def times_of(when: Any) -> dict[str, Any]:
    """Return the fields `cron` and `weekdays`, or `every`. Raises TypeError for a schedule that is neither."""
    if isinstance(when, crontab):
        return _cron(when)
    run_every: Any = getattr(when, "run_every", when) if isinstance(when, BaseSchedule) else when
    if isinstance(run_every, timedelta):
        return {"every": run_every.total_seconds()}
    if isinstance(run_every, int | float):
        return {"every": float(run_every)}
    raise TypeError(f"{type(when).__name__} cannot be kept: use crontab, or a timedelta")


def _cron(when: crontab) -> dict[str, Any]:
    minute, hour, day_of_month, month, day_of_week = [_field(getattr(when, name), every) for name, every in _FIELDS]
    if "*" in (day_of_month, day_of_week):
        return {"cron": f"{minute} {hour} {day_of_month} {month} {day_of_week}"}
    weekdays: Iterable[int] = getattr(when, "day_of_week")  # noqa: B009 - Celery has no types
    return {"cron": f"{minute} {hour} {day_of_month} {month} *", "weekdays": sorted(weekdays)}


def _field(numbers: Iterable[int], every: range) -> str:
    """Return the numbers as cron writes them: `*`, `*/15`, or a list."""
    kept = sorted(numbers)
    if kept == list(every):
        return "*"
    for step in range(2, len(every)):
        if len(kept) > 1 and kept == list(every[::step]):
            return f"*/{step}"
    return ",".join(map(str, kept))
