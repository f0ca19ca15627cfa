from datetime import datetime
from typing import Any

from celery import Celery

class SchedulingError(Exception): ...

class ScheduleEntry:
    name: str
    task: str
    def default_now(self) -> datetime: ...

class Scheduler:
    app: Celery
    max_interval: float
    producer: Any
    def setup_schedule(self) -> None: ...
    def _maybe_entry(self, name: str, entry: Any) -> Any: ...
    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any: ...
    def close(self) -> None: ...
