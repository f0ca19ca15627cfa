# kombu 5.7

from typing import Any

class Message:
    body: Any
    channel: Any
    content_encoding: str | None
    content_type: str | None
    delivery_info: dict[str, Any]
    delivery_tag: Any
    errors: list[Any] | None
    headers: dict[str, Any]
    properties: dict[str, Any]
    _state: str

    @property
    def acknowledged(self) -> bool: ...
    @property
    def payload(self) -> Any: ...
    def reject(self, requeue: bool = False) -> None: ...
    def ack(self, multiple: bool = False) -> None: ...
    def _decode(self) -> Any: ...
