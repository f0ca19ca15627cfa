from typing import Any

from celery import Celery

class Scheduler:
    app: Celery
    max_interval: float
    def __init__(self, app: Celery, *, lazy: bool = False, **options: Any) -> None: ...
    def close(self) -> None: ...
