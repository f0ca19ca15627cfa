# celery 5.7

from collections.abc import Mapping, Sequence
from typing import Any

from celery.app.base import Celery

class Router:
    app: Celery | None
    queues: Any
    routes: Sequence[Any]
    create_missing: bool

    def __init__(
        self,
        routes: Sequence[Any] | None = None,
        queues: Any = None,
        create_missing: bool = False,
        app: Celery | None = None,
    ) -> None: ...
    def route(
        self,
        options: dict[str, Any],
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        task_type: Any = None,
    ) -> dict[str, Any]: ...
