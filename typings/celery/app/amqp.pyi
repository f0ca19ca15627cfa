# celery 5.7

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from functools import cached_property
from typing import Any

from celery.app.base import Celery
from celery.app.routes import Router as _Router

class AMQP:
    app: Celery
    _producer_pool: Any

    def __init__(self, app: Celery) -> None: ...
    def Router(self, queues: Any = None, create_missing: bool | None = None) -> _Router: ...
    def as_task_v2(
        self,
        task_id: str,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        countdown: float | None = None,
        eta: datetime | str | None = None,
        group_id: str | None = None,
        group_index: int | None = None,
        expires: Any = None,
        retries: int = 0,
        chord: Any = None,
        callbacks: Any = None,
        errbacks: Any = None,
        reply_to: str | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        create_sent_event: bool = False,
        root_id: str | None = None,
        parent_id: str | None = None,
        shadow: str | None = None,
        chain: Any = None,
        now: datetime | None = None,
        timezone: tzinfo | None = None,
        origin: str | None = None,
        ignore_result: bool = False,
        argsrepr: str | None = None,
        kwargsrepr: str | None = None,
        stamped_headers: Any = None,
        replaced_task_nesting: int = 0,
        **options: Any,
    ) -> Any: ...
    def _create_task_sender(self) -> Callable[..., Any]: ...
    @property
    def producer_pool(self) -> Any: ...
    @cached_property
    def _event_dispatcher(self) -> Any: ...
