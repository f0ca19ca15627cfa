# celery 5.7

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, tzinfo
from functools import cached_property
from typing import Any, TypeVar, overload

from celery.app.amqp import AMQP
from celery.app.task import Task
from celery.app.utils import Settings
from celery.utils.dispatch import Signal
from kombu.connection import Connection, ConnectionPool

_Task = TypeVar("_Task", bound=Task)

class Celery:
    main: str | None
    amqp_cls: Any
    backend_cls: Any
    configured: bool
    on_after_configure: Signal
    steps: dict[str, set[Any]]
    tasks: dict[str, Task]

    def __init__(
        self,
        main: str | None = None,
        loader: Any = None,
        backend: Any = None,
        amqp: Any = None,
        events: Any = None,
        log: Any = None,
        control: Any = None,
        set_as_current: bool = True,
        tasks: Any = None,
        broker: str | None = None,
        include: Sequence[str] | None = None,
        changes: Mapping[str, Any] | None = None,
        config_source: Any = None,
        fixups: Iterable[str] | None = None,
        task_cls: Any = None,
        autofinalize: bool = True,
        namespace: str | None = None,
        strict_typing: bool = True,
        config_source_silent: bool = False,
        **kwargs: Any,
    ) -> None: ...
    def start(self, argv: Sequence[str] | None = None) -> int | None: ...
    def set_current(self) -> None: ...
    def close(self) -> None: ...
    @overload
    def task(self, fun: Callable[..., Any], /) -> Task: ...
    @overload
    def task(self, **options: Any) -> Callable[[Callable[..., Any]], Task]: ...
    def signature(self, *args: Any, **kwargs: Any) -> Any: ...
    def producer_or_acquire(self, producer: Any = None) -> AbstractContextManager[Any]: ...
    def register_task(self, task: _Task | type[_Task], **options: Any) -> _Task: ...
    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        task_id: str | None = None,
        producer: Any = None,
        connection: Any = None,
        router: Any = None,
        result_cls: Any = None,
        expires: Any = ...,
        publisher: Any = None,
        link: Any = None,
        link_error: Any = None,
        add_to_parent: bool = True,
        group_id: str | None = None,
        group_index: int | None = None,
        retries: int = 0,
        chord: Any = None,
        reply_to: str | None = None,
        time_limit: float | None = ...,
        soft_time_limit: float | None = ...,
        root_id: str | None = None,
        parent_id: str | None = None,
        route_name: str | None = None,
        shadow: str | None = None,
        chain: Any = None,
        task_type: Any = None,
        replaced_task_nesting: int = 0,
        **options: Any,
    ) -> Any: ...
    def connection_for_read(self, url: str | None = None, **kwargs: Any) -> Connection: ...
    def connection_for_write(self, url: str | None = None, **kwargs: Any) -> Connection: ...
    @cached_property
    def Task(self) -> type[Task]: ...
    @cached_property
    def amqp(self) -> AMQP: ...
    @property
    def thread_oid(self) -> str: ...
    @cached_property
    def control(self) -> Any: ...
    @property
    def backend(self) -> Any: ...
    @property
    def conf(self) -> Settings: ...
    @property
    def pool(self) -> ConnectionPool: ...
    @property
    def producer_pool(self) -> Any: ...
    @cached_property
    def timezone(self) -> tzinfo: ...
