# celery 5.7

from collections.abc import Callable
from typing import Any

def default(
    task: Any,
    app: Any,
    consumer: Any,
    info: Callable[..., Any] = ...,
    error: Callable[..., Any] = ...,
    task_reserved: Callable[..., Any] = ...,
    to_system_tz: Callable[..., Any] = ...,
    bytes: type = ...,
    proto1_to_proto2: Callable[..., Any] = ...,
) -> Callable[..., Any]: ...
