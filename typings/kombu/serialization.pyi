# kombu 5.7

from typing import Any

def dumps(data: Any, serializer: str | None = None) -> tuple[str, str, Any]: ...
