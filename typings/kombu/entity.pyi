# kombu 5.7

from collections.abc import Iterable, Mapping
from typing import Any

class Exchange:
    name: str
    type: str
    delivery_mode: Any

    def __init__(self, name: str = "", type: str = "", channel: Any = None, **kwargs: Any) -> None: ...
    def __hash__(self) -> int: ...

class Queue:
    name: str
    exchange: Exchange | None
    routing_key: str
    queue_arguments: Mapping[str, Any] | None

    def __init__(
        self,
        name: str = "",
        exchange: Exchange | str | None = None,
        routing_key: str = "",
        channel: Any = None,
        bindings: Iterable[Any] | None = None,
        on_declared: Any = None,
        **kwargs: Any,
    ) -> None: ...
    @property
    def can_cache_declaration(self) -> bool: ...
    def __hash__(self) -> int: ...

def maybe_delivery_mode(v: int | str | None, modes: Mapping[str, int] | None = None, default: int = 2) -> int: ...
