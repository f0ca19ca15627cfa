# celery 5.7

from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

class Proxy(Generic[_T]):
    def _get_current_object(self) -> _T: ...
    def __getattr__(self, name: str) -> Any: ...
