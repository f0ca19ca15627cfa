# celery 5.7

from collections.abc import Callable, Iterator
from typing import Any

from celery.app.base import Celery
from kombu.utils.compat import detect_environment as detect_environment

class Drainer:
    result_consumer: Any

    def __init__(self, result_consumer: Any) -> None: ...
    def drain_events_until(
        self,
        p: Any,
        timeout: float | None = None,
        interval: float = 1,
        on_interval: Callable[[], Any] | None = None,
        wait: Callable[..., Any] | None = None,
    ) -> Iterator[None]: ...

class AsyncBackendMixin:
    result_consumer: Any

    def iter_native(self, result: Any, no_ack: bool = True, **kwargs: Any) -> Iterator[tuple[str, Any]]: ...
    def add_pending_result(self, result: Any, weak: bool = False, start_drainer: bool = True) -> Any: ...
    def remove_pending_result(self, result: Any) -> Any: ...
    def wait_for_pending(self, result: Any, callback: Any = None, propagate: bool = True, **kwargs: Any) -> Any: ...
    def _add_pending_result(self, task_id: str, result: Any, weak: bool = False) -> None: ...
    def _wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        on_interval: Callable[[], Any] | None = None,
        on_message: Callable[[dict[str, Any]], Any] | None = None,
        **kwargs: Any,
    ) -> Iterator[None]: ...

class BaseResultConsumer:
    backend: Any
    app: Celery
    accept: Any
    drainer: Drainer

    def __init__(self, backend: Any, app: Celery, accept: Any, pending_results: Any, pending_messages: Any) -> None: ...
    def start(self, initial_task_id: str, **kwargs: Any) -> None: ...
    def stop(self) -> None: ...
    def drain_events(self, timeout: float | None = None) -> None: ...
    def consume_from(self, task_id: str) -> None: ...
    def cancel_for(self, task_id: str) -> None: ...
    def on_after_fork(self) -> None: ...
    def drain_events_until(
        self, p: Any, timeout: float | None = None, on_interval: Callable[[], Any] | None = None
    ) -> Iterator[None]: ...
    def on_wait_for_pending(self, result: Any, timeout: float | None = None, **kwargs: Any) -> None: ...
    def on_state_change(self, meta: dict[str, Any], message: Any) -> None: ...
    def _wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        on_interval: Callable[[], Any] | None = None,
        on_message: Callable[[dict[str, Any]], Any] | None = None,
        **kwargs: Any,
    ) -> Iterator[None]: ...
