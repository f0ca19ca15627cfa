# billiard 4.3

from collections.abc import Callable
from typing import Any, TypeAlias

ACK: int
TERMINATE: int

class Worker:
    outq: Any
    wait_for_job: Callable[[], Any]

    def on_loop_start(self, pid: int) -> None: ...
    def _do_exit(self, pid: int, exitcode: int | None, exc: BaseException | None = None) -> None: ...

class ResultHandler:
    on_state_change: Callable[[Any], None]

    def __init__(
        self,
        outqueue: Any,
        get: Callable[..., Any],
        cache: dict[int, Any],
        poll: Callable[..., Any],
        join_exited_workers: Callable[..., Any],
        putlock: Any,
        restart_state: Any,
        check_timeouts: Callable[..., Any] | None,
        on_job_ready: Callable[..., Any],
        on_ready_counters: Any = None,
    ) -> None: ...

_Worker: TypeAlias = Worker
_ResultHandler: TypeAlias = ResultHandler

class Pool:
    Worker: type[_Worker]
    ResultHandler: type[_ResultHandler]
    _cache: dict[int, Any]
    _pool: list[Any]
    _result_handler: _ResultHandler
    _state: int

    def WorkerProcess(self, worker: _Worker) -> Any: ...
    def _process_by_pid(self, pid: int) -> tuple[Any, int | None]: ...
    def terminate_job(self, pid: int, sig: int | None = None) -> None: ...
    def on_job_ready(self, job: int, i: Any, obj: Any, inqW_fd: int) -> None: ...
