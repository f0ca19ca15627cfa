# celery 5.7

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

reserved_requests: WeakSet[Any]
active_requests: WeakSet[Any]
total_count: dict[str, int]
should_stop: int | bool | None
should_terminate: int | bool | None

def task_ready(
    request: Any,
    successful: bool = False,
    remove_request: Callable[..., Any] = ...,
    discard_active_request: Callable[[Any], None] = ...,
    discard_reserved_request: Callable[[Any], None] = ...,
    discard_scheduled_request: Callable[[Any], None] = ...,
) -> None: ...
