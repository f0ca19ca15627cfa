# celery 5.7

from typing import Any
from weakref import WeakSet

reserved_requests: WeakSet[Any]
active_requests: WeakSet[Any]
should_stop: int | bool | None
should_terminate: int | bool | None

def task_ready(request: Any, successful: bool = False, **_: Any) -> None: ...
