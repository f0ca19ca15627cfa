# celery 5.7

from collections.abc import Callable
from typing import Any

class Panel:
    data: dict[str, Callable[..., Any]]

def inspect_command(**kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
