"""Runs the messages of a chunk in a process of the pool.

All attempts are started, then the function runs once, and then Celery's tracer runs each message: the task finds its
part of the chunk there, with its attempt and outcome, and finishes it as that of any other task.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from celery.app.task import Context as Request
from kombu.serialization import loads, prepare_accept_content

from laneway.platform.errors import PlatformError
from laneway.platform.execution.attempts import Attempts, DeliveredTask
from laneway.platform.execution.outcomes import Attempt, AttemptResult, Outcome

Call = tuple[Any, ...]
"""The arguments of Celery's tracer for one message, as `laneway.worker.chunks` has them."""


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt has ended."""

    outcome: Outcome
    result: AttemptResult
    is_stored: bool | PlatformError
    """False: the attempt does not own its task any more. An error: it could not be stored."""


@dataclass(slots=True)
class Part:
    """One message of a chunk."""

    chunk: str
    """The id of the chunk."""
    request: Request
    delivered: DeliveredTask | None = None
    started: Attempt | None = None
    ended: End | None = None
    refusal: Exception | None = None
    """Celery's exception that says what becomes of a message whose attempt does not run, such as Ignore."""

    @property
    def attempt(self) -> Attempt:
        """Its attempt. Raises its refusal if it must not run."""
        if self.refusal is not None:
            raise self.refusal
        assert self.started is not None  # noqa: S101 - each part is started or refused
        return self.started

    @property
    def end(self) -> End:
        """How its attempt has ended."""
        assert self.ended is not None  # noqa: S101 - each attempt that was started has been ended
        return self.ended


_part: ContextVar[Part | None] = ContextVar("laneway_chunk_part", default=None)


def current_part(task_id: str) -> Part | None:
    """The part of the running chunk that this task is; None if it runs alone."""
    part = _part.get()
    return part if part is not None and part.request.id == task_id else None


def run_parts(task: Any, id: str, calls: Sequence[Call]) -> Iterator[Call]:
    """Start all attempts, run the function, and then give each call, which finds its part. `task`: a `PlatformTask`."""
    parts = [Part(id, _request_of(task, call)) for call in calls]
    _start(task, parts, chunk={"id": id, "size": len(parts)})
    running = [part for part in parts if part.started is not None]
    if running:
        with _as_request(task, running[0].request):
            outcomes = task.work_on_chunk([part.attempt for part in running], id=id)
            ends = task.ends([(part.attempt, outcome) for part, outcome in zip(running, outcomes, strict=True)])
        for part, end in zip(running, ends, strict=True):
            part.ended = end
    for part, call in zip(parts, calls, strict=True):
        token = _part.set(part)
        try:
            yield call
        finally:
            _part.reset(token)


def _start(task: Any, parts: Sequence[Part], *, chunk: dict[str, Any]) -> None:
    for part in parts:
        with _refused(task, part):
            part.delivered = task.delivered(part.request.args, part.request.kwargs, chunk=chunk)
    delivered = [(part, part.delivered) for part in parts if part.delivered is not None]
    attempts: Attempts = task.platform.attempts
    replies = attempts.start_many([each for _, each in delivered]) if delivered else []
    for (part, each), reply in zip(delivered, replies, strict=True):
        with _refused(task, part):
            part.started = task.attempt_of(reply, each)


@contextmanager
def _refused(task: Any, part: Part) -> Generator[None]:
    """While the block runs, Celery's request is that of the part. An exception is kept for where Celery expects it."""
    with _as_request(task, part.request):
        try:
            yield
        except Exception as error:  # noqa: BLE001
            part.refusal = error


def _request_of(task: Any, call: Call) -> Request:
    """The request of a message, as Celery's tracer makes it."""
    _, _, headers, body, content_type, encoding = call
    if content_type:
        accept = prepare_accept_content(task.app.conf.accept_content)
        body = loads(body, content_type, encoding, accept=accept)
    args, kwargs, embed = cast("tuple[list[Any], dict[str, Any], dict[str, Any] | None]", body)
    described = {**cast("dict[str, Any]", headers), "args": args, "kwargs": kwargs}
    return Request({**described, "is_eager": False, "called_directly": False}, **embed or {})


@contextmanager
def _as_request(task: Any, request: Request) -> Generator[None]:
    task.request_stack.push(request)
    try:
        yield
    finally:
        task.request_stack.pop()
