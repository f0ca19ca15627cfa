# celery 5.7

from typing import Any

RUN: int

class StartStopStep:
    def __init__(self, parent: Any, **kwargs: Any) -> None: ...
    def start(self, parent: Any, /) -> Any: ...
