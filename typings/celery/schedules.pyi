# celery 5.7

from collections.abc import Iterable
from typing import Any

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
