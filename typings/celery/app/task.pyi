# celery 5.7

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from celery.app.base import Celery

class Context:
    delivery_info: dict[str, Any] | None
    headers: dict[str, Any] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def update(self, *args: Any, **kwargs: Any) -> None: ...
    def get(self, key: str, default: Any = None) -> Any: ...
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...

class Task:
    Strategy: str
    Request: str
    name: str
    typing: bool | None
    abstract: bool
    max_retries: int | None
    ignore_result: bool | None
    acks_late: bool | None
    throws: tuple[type[BaseException], ...]
    app: Celery

    @property
    def request(self) -> Context: ...
    @property
    def backend(self) -> Any: ...
    def run(self, *args: Any, **kwargs: Any) -> Any: ...
    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any: ...
    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> NoReturn: ...
    def send_event(
        self, type_: str, retry: bool = True, retry_policy: Mapping[str, Any] | None = None, **fields: Any
    ) -> Any: ...
    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None: ...
