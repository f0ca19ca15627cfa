# kombu 5.7

from typing import Any

class SerializerRegistry:
    name_to_type: dict[str, str]

registry: SerializerRegistry

def dumps(data: Any, serializer: str | None = None) -> tuple[str, str, Any]: ...
def loads(data: Any, content_type: str, content_encoding: str, accept: Any = None, force: bool = False) -> Any: ...
def prepare_accept_content(content_types: Any, name_to_type: dict[str, str] | None = None) -> Any: ...
