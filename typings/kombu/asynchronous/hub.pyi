# kombu 5.7

from collections.abc import Callable
from typing import Any

class Hub:
    def call_soon(self, callback: Callable[..., Any], *args: Any) -> Any: ...

def get_event_loop() -> Hub | None: ...
