# kombu 5.7

from typing import Any

class SerializerRegistry:
    name_to_type: dict[str, str]

registry: SerializerRegistry

def dumps(data: Any, serializer: str | None = None) -> tuple[str, str, Any]: ...
