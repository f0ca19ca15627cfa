# celery 5.7

from typing import Any

from celery.app.base import Celery

class Consumer:
    app: Celery
    blueprint: Any
    hostname: str
    hub: Any
    pool: Any
    task_consumer: Any

    def __init__(
        self,
        on_task_request: Any,
        init_callback: Any = ...,
        hostname: str | None = None,
        pool: Any = None,
        app: Celery | None = None,
        timer: Any = None,
        controller: Any = None,
        hub: Any = None,
        amqheartbeat: Any = None,
        worker_options: Any = None,
        disable_rate_limits: bool = False,
        initial_prefetch_count: int = 2,
        prefetch_multiplier: int = 1,
        **kwargs: Any,
    ) -> None: ...
    def on_send_event_buffered(self) -> None: ...
    def on_unknown_message(self, body: Any, message: Any) -> None: ...
    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None: ...
    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None: ...
    def stop(self) -> None: ...
    def cancel_active_requests(self) -> None: ...
    def on_connection_error_after_connected(self, exc: Exception) -> None: ...
    def _flush_events(self) -> None: ...
