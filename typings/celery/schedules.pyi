# celery 5.7

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from celery import Celery

class BaseSchedule:
    def remaining_estimate(self, last_run_at: datetime) -> timedelta: ...

def maybe_schedule(s: Any, relative: bool = False, app: Celery | None = None) -> BaseSchedule: ...

class crontab:
    def __init__(
        self,
        minute: int | str | Iterable[int] = "*",
        hour: int | str | Iterable[int] = "*",
        day_of_week: int | str | Iterable[int] = "*",
        day_of_month: int | str | Iterable[int] = "*",
        month_of_year: int | str | Iterable[int] = "*",
        **kwargs: Any,
    ) -> None: ...
