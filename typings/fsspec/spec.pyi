# fsspec 2026.9

from typing import Any

class AbstractFileSystem:
    cachable: bool

    def __init__(self, *args: Any, **storage_options: Any) -> None: ...
    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Any = None,
        compression: Any = None,
        **kwargs: Any,
    ) -> Any: ...
