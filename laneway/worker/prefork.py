"""Celery's prefork pool with a shorter way to its processes: `worker_pool = "laneway.worker.prefork:TaskPool"`.

`celery worker -P prefork`, which is also the default, takes the pool that this setting names. All of Celery's pool
stays: its processes and how they are replaced, one task at a time for each, time limits, revoking, scaling, restarts.
What differs is how the worker's event loop talks to them, which costs most of what a short task costs there:

- a job goes out in one write instead of two, as soon as there is a process for it: when it comes, or when a process
  is done with its last. Celery waits for a turn of the loop, asks in it which pipes can be written to, and wakes the
  process with the length of the job before the job is there;
- whatever a process has said is read at once; Celery reads the length and the message, one message a turn, and has
  the loop watch the pipe anew for each;
- a process that has begun a task says so where it wakes nobody (`accepting.py`);
- a pipe is watched for writing only while it is full.

A job that does not fit into a pipe in one go is written in parts, by Celery's own code.
"""

from __future__ import annotations

import os
import pickle
import select
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from billiard.pool import ACK
from celery.concurrency import asynpool, prefork

from laneway.engine.start_pipe import StartListener, StartPipe
from laneway.transport.write_through import writes_at_once
from laneway.worker.strategy import trace

_LENGTH = struct.Struct(">I")
_CHUNK = 65536
_NOTHING = memoryview(b"")
STOPPING_SECONDS = 0.5
BEGIN_SECONDS = 1.0
"""How long a process that was given a job is waited for to begin it."""
PIPE_BUF = select.PIPE_BUF
"""A pipe takes so much as a whole or not at all."""


class Worker(asynpool.Worker):
    """A process of the pool."""

    def on_loop_start(self, pid: int) -> None:
        """It is about to wait for its first job."""
        super().on_loop_start(pid)
        reports = self.outq = Reports(self.outq)
        receive = self.wait_for_job

        def wait_for_job() -> Any:
            request = receive()
            reports.quietly = request is not None and request[1][2] is trace
            return request

        self.wait_for_job = wait_for_job


class Reports:
    """What a process of the pool says: Celery's pipe, without billiard's own pickler unless that is needed."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._descriptor: int = queue._writer.fileno()
        self._beginnings: StartPipe | None = getattr(queue, "start_pipe", None)  # none in a process that was spawned
        self.quietly = False
        """Whether the task that comes next acks late: that it is begun need not be known at once."""

    def put(self, message: tuple[int, Any]) -> None:
        """Say it. What it is about may be of any size: waits for the worker to take it in."""
        kind, about = message
        if kind == ACK and self.quietly and self._beginnings and self._beginnings.write(about[0], about[2]):
            return
        try:
            body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 - whatever it is: billiard knows how to pickle more, or raises it again
            self._queue.put(message)
            return
        rest = memoryview(_LENGTH.pack(len(body)) + body)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


class ResultHandler(asynpool.ResultHandler):
    """Reads what the processes say: all that has come, in one go."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._parts: dict[int, tuple[Any, bytes]] = {}
        """Descriptor → (its process, the beginning of a message that has not come as a whole)."""
        self.listener: StartListener | None = None
        super().__init__(*args, **kwargs)

    def take(self, descriptor: int, proc: Any) -> list[Any] | None:
        """The messages that have come; None: nothing has. Raises EOFError or OSError when nothing will any more."""
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return None
        if not chunk:
            raise EOFError
        of, part = self._parts.pop(descriptor, (proc, b""))
        data = part + chunk if of is proc else chunk
        messages, end = _messages(data)
        if end < len(data):
            self._parts[descriptor] = proc, data[end:]
        return messages

    def read(self, descriptor: int, proc: Any) -> bool:
        """Take in what has come. False: nothing will come any more."""
        try:
            messages = self.take(descriptor, proc)
        except (EOFError, OSError):
            return False
        if self.listener:
            self.listener.read(proc)
            if messages:
                self.listener.forget(proc)  # a process that speaks here has begun what it was given
        self._hear(messages or [])
        return True

    def read_all(self, descriptor: int, proc: Any) -> None:
        """Take in all that a process has said that is over; the beginning of a message is lost with it."""
        messages = list[Any]()
        with suppress(EOFError, OSError):
            while (more := self.take(descriptor, proc)) is not None:
                messages += more
        self._parts.pop(descriptor, None)
        if self.listener:
            self.listener.read(proc)
            self.listener.forget(proc)
        self._hear(messages)

    def _hear(self, messages: list[Any]) -> None:
        """What goes wrong with one message is raised when the others are done with."""
        for place, message in enumerate(messages):
            try:
                if message:
                    self.on_state_change(message)
            except BaseException:
                self._hear(messages[place + 1 :])
                raise

    def _make_process_result(self, hub: Any) -> Callable[[int], None]:
        fileno_to_outq, remove_reader, read = self.fileno_to_outq, hub.remove_reader, self.read

        def on_result_readable(descriptor: int) -> None:
            proc, listener = fileno_to_outq.get(descriptor), self.listener
            if listener:
                listener.reading = True
            try:
                if proc is None or not read(descriptor, proc):
                    remove_reader(descriptor)
            finally:
                if listener:
                    listener.reading = False

        return on_result_readable

    def _flush_outqueue(self, fd: int, remove: Any, process_index: Any, on_state_change: Any) -> Any:
        """While the worker stops, outside the loop: wait a little for what this process says."""
        del on_state_change
        proc = process_index.get(fd)
        if proc is None:
            return remove(fd)
        if self.listener:
            self.listener.read(proc)
        try:
            there: bool = proc.outq._reader.poll(STOPPING_SECONDS)
        except OSError:
            return remove(fd)
        return remove(fd) if there and not self.read(fd, proc) else None


class AsynPool(asynpool.AsynPool):
    """Celery's pool of processes on an event loop."""

    ResultHandler = ResultHandler
    Worker = Worker
    _listener: StartListener | None = None
    _flushing = False

    def create_process_queues(self) -> Any:
        """The pipes of one process."""
        queues = super().create_process_queues()
        outq: Any = queues[1]
        outq.start_pipe = StartPipe()
        return queues

    def flush(self) -> None:
        """The worker stops, or its connection is lost: what was not begun goes back; what a process has, it begins."""
        self._flushing = True
        try:
            deadline = time.monotonic() + BEGIN_SECONDS
            while (given := self._given()) and time.monotonic() < deadline:
                for proc in given:
                    self._hear(proc)
                time.sleep(0.001)
            super().flush()
        finally:
            self._flushing = False

    def _given(self) -> list[Any]:
        """The processes that were given a job and have not begun it."""
        jobs = [job for job in list(self._cache.values()) if job._write_to and not (job._accepted or job.ready())]
        return [job._write_to for job in jobs if job._write_to._is_alive()]

    def _hear(self, proc: Any) -> None:
        cast("ResultHandler", self._result_handler).read(proc.outqR_fd, proc)

    def _create_write_handlers(self, hub: Any, *rest: Any, **options: Any) -> None:
        if self.sched_strategy != asynpool.SCHED_STRATEGY_FAIR:  # the others write ahead, and by turns of the loop
            super()._create_write_handlers(hub, *rest, **options)
            return
        loop = _Loop(hub)
        super()._create_write_handlers(loop, *rest, **options)
        schedule = loop.consolidate_callback
        outbound, cache = self.outbound_buffer, self._cache
        busy, every, writing = self._busy_workers, self._all_inqueues, self._active_writes
        listener = self._listen(hub)

        def write() -> None:
            if outbound and len(busy) < len(every) and not self._flushing:
                idle = [descriptor for descriptor in every if descriptor not in busy and descriptor not in writing]
                if idle:
                    schedule(idle)
                    for descriptor in idle:
                        if descriptor in busy and descriptor in self._fileno_to_inq:
                            listener.expect(self._fileno_to_inq[descriptor])

        def put(job: Any) -> None:
            made = cache[job[1][0]]
            made._payload = _payload(pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
            outbound.append(made)
            write()

        self._quick_put = put
        self.on_poll_start = self._write = write
        writes_at_once.add(hub)

    def _listen(self, hub: Any) -> StartListener:
        handler = cast("ResultHandler", self._result_handler)
        if self._listener is None:

            def begun(job: int, at: float, pid: int) -> None:
                handler.on_state_change((ACK, (job, None, at, pid, None)))

            self._listener = handler.listener = StartListener(hub, begun)
        self._listener.attach()
        return self._listener

    def on_job_ready(self, job: Any, i: Any, obj: Any, inqW_fd: int) -> None:
        """A process is done with its job: it gets the next before the result is looked at."""
        super().on_job_ready(job, i, obj, inqW_fd)
        self._write()

    def _write(self) -> None:
        """Give jobs that wait to processes that wait; there is none before the loop runs."""

    def process_flush_queues(self, proc: Any) -> None:
        """A process is over: take in what it has said."""
        reader = proc.outq._reader
        if not reader.closed and self._state != asynpool.TERMINATE:
            cast("ResultHandler", self._result_handler).read_all(reader.fileno(), proc)


class TaskPool(prefork.TaskPool):
    """Celery's prefork pool."""

    Pool = AsynPool


class _Loop:
    """The event loop, as the writing side of the pool uses it: what is not watched need not be let go of."""

    consolidate_callback: Any

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self.add, self.remove, self.add_writer = hub.add, hub.remove, hub.add_writer

    def remove_writer(self, descriptor: int) -> None:
        """Do not watch it for writing any more."""
        if descriptor in self._hub.writers:
            self._hub.remove_writer(descriptor)


def _payload(body: bytes) -> tuple[memoryview, memoryview, int]:
    """What Celery writes: a head of at least four bytes, then the body and its size."""
    head = _LENGTH.pack(len(body))
    if len(head) + len(body) <= PIPE_BUF:
        return memoryview(head + body), _NOTHING, 0
    return memoryview(head), memoryview(body), len(body)


def _messages(data: bytes) -> tuple[list[Any], int]:
    """The whole messages in it, and where they end."""
    found, at, last = list[Any](), 0, len(data) - _LENGTH.size
    while at <= last:
        end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            break
        found.append(pickle.loads(data[at + _LENGTH.size : end]))  # noqa: S301 - from a process of our own
        at = end
    return found, at
