# fsspec 2026.9

from typing import Any

from fsspec.spec import AbstractFileSystem

class LocalFileSystem(AbstractFileSystem):
    def __init__(self, auto_mkdir: bool = False, **kwargs: Any) -> None: ...
    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> Any: ...
