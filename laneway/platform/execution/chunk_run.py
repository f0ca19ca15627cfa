"""Runs the messages of a chunk in a process of the pool.

All attempts are started, then the function runs once, and then Celery's tracer runs each message: the task finds its
part of the chunk there, with its attempt and outcome, and finishes it as that of any other task.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import Any

from celery.app.task import Context as Request
from kombu.serialization import loads, prepare_accept_content

from laneway.platform.execution.outcomes import Attempt, Outcome

Call = tuple[Any, ...]
"""The arguments of Celery's tracer for one message, as `laneway.worker.chunks` has them."""


@dataclass(slots=True)
class Part:
    """One message of a chunk."""

    chunk: str
    size: int
    request: Request
    started: Attempt | Exception
    """The exception, such as Celery's Ignore, says what becomes of a message whose attempt must not run."""
    began_at: float
    """Monotonic time of the start."""
    outcome: Outcome | None = None

    @property
    def attempt(self) -> Attempt:
        """Its attempt. Raises the exception if it must not run."""
        if isinstance(self.started, Exception):
            raise self.started
        return self.started


_parts: ContextVar[Mapping[str, Part]] = ContextVar("laneway_chunk_parts", default={})  # noqa: B039  never changed


def part_of(task_id: str) -> Part | None:
    """The part of the running chunk that this task is; None if it runs alone."""
    return _parts.get().get(task_id)


@contextmanager
def chunk_running(task: Any, id: str, calls: Sequence[Call]) -> Generator[None]:
    """Start all attempts and run the function. In the block, each message finds its part. `task`: a `PlatformTask`."""
    parts = {call[1]: _start(task, call, chunk=id, size=len(calls)) for call in calls}
    started = [part for part in parts.values() if isinstance(part.started, Attempt)]
    if started:
        with _as_request(task, started[0].request):
            outcomes = task.work_on_chunk([part.attempt for part in started], id=id)
        for part, outcome in zip(started, outcomes, strict=True):
            part.outcome = outcome
    token = _parts.set(parts)
    try:
        yield
    finally:
        _parts.reset(token)


def _start(task: Any, call: Call, *, chunk: str, size: int) -> Part:
    request = _request_of(task, call)
    with _as_request(task, request):
        try:
            started = task.start_attempt(request.args, request.kwargs, chunk={"id": chunk, "size": size})
        except Exception as error:  # noqa: BLE001  it is raised where Celery's tracer expects it
            started = error
    return Part(chunk, size, request, started, monotonic())


def _request_of(task: Any, call: Call) -> Request:
    """The request of a message, as Celery's tracer makes it."""
    _, _, described, body, content_type, encoding = call
    if content_type:
        accept = prepare_accept_content(task.app.conf.accept_content)
        body = loads(body, content_type, encoding, accept=accept)
    args, kwargs, embed = body
    described = {**described, "args": args, "kwargs": kwargs, "is_eager": False, "called_directly": False}
    return Request(described, **embed or {})


@contextmanager
def _as_request(task: Any, request: Request) -> Generator[None]:
    task.request_stack.push(request)
    try:
        yield
    finally:
        task.request_stack.pop()
