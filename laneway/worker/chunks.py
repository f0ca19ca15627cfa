"""Gathers the messages of a chunk task, and gives the pool one job for many of them.

A task with the attribute `chunk` is handed up to `chunk.size` messages at once. They are gathered here, in the main
process of the worker, whose leases they stay: each is still renewed, cancelled, given back and acknowledged alone. A
chunk closes when it is full, or `chunk.seconds` after its first message, and then takes one slot of the pool.

1. The first message of a chunk counts in the prefetch count like any other one. For the others the count is raised
   while the chunk gathers and runs: so a worker with one slot, too, can gather a hundred.
2. When the chunk is given to the pool, messages are left out that Celery has forgotten (the connection was lost), that
   were cancelled or revoked, that have expired, or whose lease was lost. A worker that stops gives all back instead.
3. The process of the pool calls `task.run_chunk`, which does the work, and then Celery's tracer for each message,
   which asks the task what became of it. The answers go to the requests, one by one.
4. A process that dies, or a time limit, ends the attempts of all messages of its chunk.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, cast
from weakref import ref

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated, WorkerLostError
from billiard.exceptions import TimeLimitExceeded as PoolTimeLimitExceeded
from celery import current_app
from celery.exceptions import TaskRevokedError
from celery.worker import state

from laneway.transport.celery_worker import is_stopping

logger = logging.getLogger(__name__)

MOST_BYTES = 4_194_304
"""Bytes of the bodies of one chunk. It closes when it has as many."""
Call = tuple[Any, ...]
"""The arguments of Celery's tracer for one message: task name, task id, request, body, content type and encoding."""


class ChunkRules(Protocol):
    """How a task is gathered."""

    @property
    def size(self) -> int:
        """The most messages of a chunk."""
        ...

    @property
    def seconds(self) -> float:
        """How long a chunk waits for more messages after its first one."""
        ...


class ChunkTask(Protocol):
    """A task whose messages are gathered."""

    name: str

    @property
    def chunk(self) -> ChunkRules:
        """How they are gathered."""
        ...

    def chunk_group(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Hashable:
        """Messages are in one chunk only if this value is the same."""
        ...

    def run_chunk(self, id: str, calls: Sequence[Call]) -> Iterator[Call]:
        """Do the work of all messages, and then give each call: Celery's tracer asks the task what became of it."""
        ...


@dataclass(slots=True, eq=False, kw_only=True)
class _Job:
    """What one request wants of the pool."""

    request: Any
    target: Callable[..., Any]
    args: Call
    callback: Callable[[Any], object]
    error_callback: Callable[[Any], object]
    accept_callback: Callable[[int, float], object]
    timeout_callback: Callable[[bool, float], object]
    soft_timeout: float | None = None
    timeout: float | None = None


class CollectingPool:
    """The pool as the requests of a chunk task see it: what they want of it is collected, and becomes one job."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._collected = ContextVar[list[dict[str, Any]] | None]("laneway_collected", default=None)

    def apply_async(self, target: Any, **options: Any) -> Any:
        """Collect a job; outside of `collect`, for a request that comes alone, run it at once."""
        collected = self._collected.get()
        if collected is None:
            return self._pool.apply_async(target, **options)
        collected.append({"target": target, **options})
        return None

    def collect(self, requests: Iterable[Any]) -> list[_Job]:
        """The jobs of these requests. Those that must not run are left out."""
        jobs = list[_Job]()
        for request in requests:
            token = self._collected.set(collected := [])
            try:
                with suppress(TaskRevokedError):
                    request.execute_using_pool(self)
            finally:
                self._collected.reset(token)
            for options in collected:
                options.pop("correlation_id", None)
                jobs.append(_Job(request=request, **options))
        return jobs


class Gatherer:
    """Gathers the messages of one task in one worker."""

    def __init__(self, task: ChunkTask, consumer: Any, *, start: Callable[[Any], object]) -> None:
        """`start` gives a chunk to the pool of the worker."""
        self._task, self._consumer, self._start = task, consumer, start
        self.pool = CollectingPool(consumer.pool)
        self._open: dict[Hashable, Chunk] = {}
        attributes = cast("dict[str, Any]", consumer.__dict__)
        gatherers: dict[str, Gatherer] = attributes.setdefault("_laneway_gatherers", {})
        if previous := gatherers.get(task.name):  # Celery makes its strategies anew at each connection
            previous.close_all()
        gatherers[task.name] = self

    def add(self, request: Any) -> None:
        """Add a message that has arrived. Called where Celery would give it to the pool."""
        group = self._task.chunk_group(request.args, request.kwargs)
        chunk = self._open.get(group)
        if chunk is None:
            chunk = self._open[group] = Chunk(self._task.chunk.size, self.pool, self._consumer.qos)
            # the timer holds no message: those that Celery forgets are released when nothing refers to them any more
            self._consumer.timer.call_after(self._task.chunk.seconds, self._close, (group, ref(chunk)))
        chunk.add(request)
        if chunk.is_full:
            self._close(group, ref(chunk))

    def close_all(self) -> None:
        """Gather no more: what Celery has not forgotten runs now."""
        for group, chunk in list(self._open.items()):
            self._close(group, ref(chunk))

    def _close(self, group: Hashable, closing: Callable[[], Chunk | None]) -> None:
        chunk = closing()
        if chunk is None or self._open.get(group) is not chunk:
            return
        del self._open[group]
        if chunk.close():
            self._start(chunk)


class Chunk:
    """Messages that are gathered, wait for a slot, and run together. It takes the place of a request for the pool."""

    def __init__(self, size: int, pool: CollectingPool, qos: Any) -> None:
        self._size, self._pool, self._qos = size, pool, qos
        self.requests = list[Any]()
        """The messages, as Celery's requests."""
        self._jobs: list[_Job] = []
        self._bytes = self._room = 0

    @property
    def is_full(self) -> bool:
        """Whether it takes no more messages."""
        return len(self.requests) >= self._size or self._bytes >= MOST_BYTES

    def add(self, request: Any) -> None:
        """Add a message, and make room for as many as there are now, so that few fetches fill the chunk."""
        self.requests.append(request)
        self._bytes += len(request.body)
        self._set_room(min(self._size, 2 * len(self.requests)) - 1)

    def close(self) -> bool:
        """Forget the messages that Celery has forgotten, and take back the room that is not used. False: none is left.

        Celery forgets messages when it loses their connection.
        """
        self.requests = [each for each in self.requests if each in state.reserved_requests]
        self._set_room(max(0, len(self.requests) - 1))
        return bool(self.requests)

    def execute_using_pool(self, pool: Any, **_: Any) -> Any:
        """Give the pool one job for all messages. Raises TaskRevokedError when none of them may run."""
        if is_stopping():  # the channel gives them back
            raise TaskRevokedError("the worker stops")
        self._jobs = jobs = self._pool.collect(each for each in self.requests if each in state.reserved_requests)
        self.requests = [job.request for job in jobs]
        if not jobs:
            self._set_room(0)
            raise TaskRevokedError("no message of the chunk may run")
        id = jobs[0].request.id
        for job in jobs:
            job.request.chunk = {"id": id, "size": len(jobs)}
        result = pool.apply_async(
            run_chunk,
            args=(jobs[0].target, id, [job.args for job in jobs]),
            accept_callback=self.on_accepted,
            timeout_callback=self.on_timeout,
            callback=self.on_success,
            error_callback=self.on_failure,
            soft_timeout=_shortest(job.soft_timeout for job in jobs),
            timeout=_shortest(job.timeout for job in jobs),
            correlation_id=id,
        )
        for job in jobs:
            job.request._apply_result = ref(result) if result is not None else None
        return result

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Called when the pool starts the job."""
        for job in self._jobs:
            with suppress(TaskRevokedError):  # its attempt will not start
                job.accept_callback(pid, time_accepted)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Called when a time limit is over."""
        _each(lambda job: job.timeout_callback(soft, timeout), self._jobs)

    def on_success(self, answers: Any) -> None:
        """Called with the tracer's answer for each message."""
        if not isinstance(answers, list):  # Celery's pools of this process report an error of the pool so
            self.on_failure(answers)
            return
        given = cast("list[Any]", answers)
        answer_of = {id(job): answer for job, answer in zip(self._jobs, given, strict=True)}
        _each(lambda job: job.callback(answer_of[id(job)]), self._jobs)
        self._set_room(0)

    def on_failure(self, failure: Any) -> None:
        """The process has died, or the hard time limit has ended it: each message has lost its attempt."""
        error = getattr(failure, "exception", failure)
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        lost = failure if isinstance(error, PoolTimeLimitExceeded | WorkerLostError) else _lost(error)

        def report(job: _Job) -> None:
            is_meant = isinstance(error, Terminated) and job.request._already_revoked
            job.error_callback(failure if is_meant else lost)

        _each(report, self._jobs)
        self._set_room(0)

    def _set_room(self, room: int) -> None:
        """Raise the prefetch count by so many messages in all, as long as it is that of this connection."""
        if room > self._room:
            self._qos.increment_eventually(room - self._room)
        elif room < self._room:
            self._qos.decrement_eventually(self._room - room)
        self._room = room


def run_chunk(target: Callable[..., Any], id: str, calls: list[Call]) -> list[Any]:
    """Run the messages of a chunk in the process of the pool; return the tracer's answer for each."""
    tasks: dict[str, Any] = cast("Any", current_app).tasks
    task: ChunkTask = tasks[calls[0][0]]
    return [target(*call) for call in task.run_chunk(id, calls)]


def _lost(error: BaseException) -> Any:
    try:
        raise WorkerLostError(f"The process that ran its chunk has failed: {error!r}")
    except WorkerLostError:
        return ExceptionInfo()


def _shortest(limits: Iterable[float | None]) -> float | None:
    shortest = min((limit for limit in limits if limit), default=math.inf)
    return None if math.isinf(shortest) else shortest


def _each(report: Callable[[_Job], object], jobs: Sequence[_Job]) -> None:
    """Report to each request. If one raises an error, report to the others first, then raise it."""
    for index, job in enumerate(jobs):
        try:
            report(job)
        except BaseException:
            _each(report, jobs[index + 1 :])
            raise
