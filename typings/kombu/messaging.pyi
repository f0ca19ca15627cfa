# kombu 5.7

from typing import Any

class Producer:
    compression: str | None
    exchange: Any
    serializer: str | None
    _batch_local: Any
