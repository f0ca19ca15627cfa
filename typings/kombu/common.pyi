# kombu 5.7

from typing import Any

from kombu.entity import Exchange, Queue

def maybe_declare(entity: Exchange | Queue, channel: Any = None, retry: bool = False, **retry_policy: Any) -> bool: ...
