# celery 5.7

from collections.abc import Callable
from typing import Any

def fast_trace_task(
    task: str,
    uuid: str,
    request: dict[str, Any],
    body: Any,
    content_type: str | None,
    content_encoding: str | None,
    loads: Callable[..., Any] = ...,
    _loc: Any = None,
    hostname: str | None = None,
    **_: Any,
) -> tuple[int, Any, Any]: ...
