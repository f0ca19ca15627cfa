# celery 5.7

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery

def apply_target(target: Any, *args: Any, **options: Any) -> None: ...

class BasePool:
    _pool: Any

    def __init__(self, *, app: Celery | None = None) -> None: ...
    def apply_async(
        self, target: Any, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any: ...
