# fsspec 2026.9

from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fsspec.spec import AbstractFileSystem

_T = TypeVar("_T")

def sync(
    loop: AbstractEventLoop,
    func: Callable[..., Coroutine[Any, Any, _T]],
    *args: Any,
    timeout: float | None = None,
    **kwargs: Any,
) -> _T: ...

class AsyncFileSystem(AbstractFileSystem):
    @property
    def loop(self) -> AbstractEventLoop: ...
