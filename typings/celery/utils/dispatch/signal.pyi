# celery 5.7

from collections.abc import Callable
from typing import Any, TypeVar, overload

_F = TypeVar("_F", bound=Callable[..., Any])

class Signal:
    receivers: list[Any]

    @overload
    def connect(
        self, fun: _F, /, sender: Any = None, weak: bool = True, dispatch_uid: Any = None, retry: bool = False
    ) -> _F: ...
    @overload
    def connect(
        self, *, sender: Any = None, weak: bool = True, dispatch_uid: Any = None, retry: bool = False
    ) -> Callable[[_F], _F]: ...
    def send(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]: ...
    def disconnect(self, receiver: Any) -> bool: ...
