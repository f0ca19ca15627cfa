# celery 5.7

from collections.abc import Mapping, Sequence
from typing import Any

class BasePool:
    _pool: Any

    def apply_async(
        self, target: Any, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any: ...
