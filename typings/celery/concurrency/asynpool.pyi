# celery 5.7

from collections import deque
from collections.abc import Callable
from typing import Any

from billiard import pool as _pool
from billiard.pool import TERMINATE as TERMINATE

SCHED_STRATEGY_FAIR: int

class Worker(_pool.Worker): ...

class ResultHandler(_pool.ResultHandler):
    fileno_to_outq: dict[int, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def _make_process_result(self, hub: Any) -> Callable[[int], None]: ...
    def _flush_outqueue(
        self, fd: int, remove: Callable[[int], Any], process_index: Any, on_state_change: Callable[[Any], Any]
    ) -> Any: ...

class AsynPool(_pool.Pool):
    sched_strategy: Any
    outbound_buffer: deque[Any]
    on_poll_start: Callable[[], None]
    _active_writes: set[int]
    _all_inqueues: set[int]
    _busy_workers: set[int]
    _fileno_to_inq: dict[int, Any]
    _quick_put: Callable[[Any], None]
    _waiting_to_start: set[Any]

    def _create_write_handlers(
        self,
        hub: Any,
        pack: Callable[..., bytes] = ...,
        dumps: Callable[..., bytes] = ...,
        protocol: int = ...,
    ) -> None: ...
    def flush(self) -> None: ...
    def on_job_process_down(self, job: Any, pid_gone: int) -> None: ...
    def register_with_event_loop(self, hub: Any) -> None: ...
    def create_process_queues(self) -> tuple[Any, Any, Any]: ...
    def process_flush_queues(self, proc: Any) -> None: ...
