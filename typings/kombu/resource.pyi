# kombu 5.7

from typing import Any

class Resource:
    limit: int | None
    _closed: bool
    _dirty: set[Any]

    def __init__(
        self, limit: int | None = None, preload: int | None = None, close_after_fork: bool | None = None
    ) -> None: ...
    def acquire(self, block: bool = False, timeout: float | None = None) -> Any: ...
    def release(self, resource: Any) -> None: ...
