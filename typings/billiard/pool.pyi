# billiard 4.3

from collections.abc import Callable
from typing import Any, TypeAlias

ACK: int
TERMINATE: int

class Worker:
    outq: Any
    wait_for_job: Callable[[], Any]

    def on_loop_start(self, pid: int) -> None: ...

class ResultHandler:
    on_state_change: Callable[[Any], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

_Worker: TypeAlias = Worker
_ResultHandler: TypeAlias = ResultHandler

class Pool:
    Worker: type[_Worker]
    ResultHandler: type[_ResultHandler]
    _cache: dict[int, Any]
    _pool: list[Any]
    _result_handler: _ResultHandler
    _state: int

    def on_job_ready(self, job: int, i: Any, obj: Any, inqW_fd: int) -> None: ...
