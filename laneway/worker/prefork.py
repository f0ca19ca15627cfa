"""Celery's prefork pool with faster pipes to its processes: `worker_pool = "laneway.worker.prefork:TaskPool"`.

`celery worker -P prefork`, which is also the default, takes the pool that this setting names. It keeps everything else
of Celery's pool: the processes and how they are replaced, one task at a time per process, time limits, revoking,
scaling, restarts. What differs is how the worker's event loop exchanges data with the processes, which is most of the
cost of a short task there:

- A job goes out in one write instead of two, as soon as a process is free: when the job arrives, or when a process has
  finished its last one. Celery waits for a turn of the loop and polls the pipes that can be written to. It writes the
  length of the job first, which wakes the process before the job is there.
- Everything that a process has sent is read at once. Celery reads the length and then the message, one message per
  turn, and adds the pipe to the loop again for each message.
- A process reports a started task through a pipe that does not wake the worker (`laneway.worker.start_pipe`).
- A pipe is watched for writing only while it is full.

A process leaves SIGTERM to the worker (`laneway.worker.termination`).

A job that does not fit into a pipe in one write is written in parts, by Celery's own code.
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

from laneway.transport.celery_worker import is_stopping
from laneway.transport.write_through import write_through_loops
from laneway.worker.chunks import run_chunk
from laneway.worker.start_pipe import StartListener, StartPipe
from laneway.worker.strategy import trace
from laneway.worker.termination import TerminationFlag, leave_signals_to_worker

_LENGTH = struct.Struct(">I")
_CHUNK = 65536
LATE_TARGETS = (trace, run_chunk)
"""What a process is given for tasks that ack late."""
_EMPTY = memoryview(b"")
STOPPING_SECONDS = 0.5
"""How long a stopping worker waits for the last messages of each process."""
START_SECONDS = 1.0
"""How long a stopping worker waits for the processes that have a job to start it."""
PIPE_BUF = select.PIPE_BUF
"""A pipe takes a write of at most this many bytes as a whole or not at all."""


class Worker(asynpool.Worker):
    """A process of the pool."""

    def on_loop_start(self, pid: int) -> None:
        """Prepare the process before it waits for its first job."""
        super().on_loop_start(pid)
        self._termination: TerminationFlag | None = getattr(self.outq, "termination", None)
        if self._termination is not None:
            leave_signals_to_worker(self._termination)
        writer = self.outq = ResultWriter(self.outq)
        receive = self.wait_for_job

        def wait_for_job() -> Any:
            request = receive()
            writer.uses_start_pipe = request is not None and request[1][2] in LATE_TARGETS
            return request

        self.wait_for_job = wait_for_job

    def _do_exit(self, pid: int, exitcode: int | None, exc: Any = None) -> None:
        """End the process. From here on the worker's SIGTERM only shortens the wait for its end."""
        flag: TerminationFlag | None = getattr(self, "_termination", None)
        if flag is not None:
            flag.set()
        super()._do_exit(pid, exitcode, exc)


class ResultWriter:
    """Sends the messages of a pool process through Celery's pipe. billiard pickles only what `pickle` cannot."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._descriptor: int = queue._writer.fileno()
        self._start_pipe: StartPipe | None = getattr(queue, "start_pipe", None)  # None in a process that was spawned
        self.uses_start_pipe = False
        """True when the next task acks late. The worker need not know at once that it has started."""

    def put(self, message: tuple[int, Any]) -> None:
        """Send a message of any size. It blocks until the worker has read enough for the rest to fit into the pipe."""
        kind, content = message
        if kind == ACK and self.uses_start_pipe and self._start_pipe and self._start_pipe.write(content[0], content[2]):
            return
        try:
            body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 - billiard can pickle more, or raises the error again
            self._queue.put(message)
            return
        rest = memoryview(_LENGTH.pack(len(body)) + body)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


class ResultHandler(asynpool.ResultHandler):
    """Reads the messages of the processes: everything that a process has sent, in one read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._parts: dict[int, tuple[Any, bytes]] = {}
        """Descriptor → (its process, the beginning of a message whose rest has not come yet)."""
        self.listener: StartListener | None = None
        super().__init__(*args, **kwargs)

    def take(self, descriptor: int, proc: Any) -> list[Any] | None:
        """Read the messages that have come; None: none has come. Raises EOFError or OSError at the end of the pipe."""
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return None
        if not chunk:
            raise EOFError
        sender, part = self._parts.pop(descriptor, (proc, b""))
        data = part + chunk if sender is proc else chunk
        messages, end = _messages(data)
        if end < len(data):
            self._parts[descriptor] = proc, data[end:]
        return messages

    def read(self, descriptor: int, proc: Any) -> bool:
        """Read and process what has come; False when the pipe has ended."""
        try:
            messages = self.take(descriptor, proc)
        except (EOFError, OSError):
            return False
        if self.listener:
            self.listener.read(proc)
            if messages:
                self.listener.forget(proc)  # a process that sends a message has started its job
        self._process(messages or [])
        return True

    def read_all(self, descriptor: int, proc: Any) -> None:
        """Read and process everything that a dead process has sent; an incomplete message is lost with it."""
        messages = list[Any]()
        with suppress(EOFError, OSError):
            while (more := self.take(descriptor, proc)) is not None:
                messages += more
        self._parts.pop(descriptor, None)
        if self.listener:
            self.listener.read(proc)
            self.listener.forget(proc)
        self._process(messages)

    def _process(self, messages: list[Any]) -> None:
        """Process each message. If one raises an error, process the others first, then raise it."""
        for index, message in enumerate(messages):
            try:
                if message:
                    self.on_state_change(message)
            except BaseException:
                self._process(messages[index + 1 :])
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
        """Wait a little for messages of this process. Called while the worker stops and the loop does not run."""
        del on_state_change
        proc = process_index.get(fd)
        if proc is None:
            return remove(fd)
        if self.listener:
            self.listener.read(proc)
        try:
            has_message: bool = proc.outq._reader.poll(STOPPING_SECONDS)
        except OSError:
            return remove(fd)
        return remove(fd) if has_message and not self.read(fd, proc) else None


class AsynPool(asynpool.AsynPool):
    """Celery's pool of processes on an event loop."""

    ResultHandler = ResultHandler
    Worker = Worker
    _listener: StartListener | None = None
    _start_listener: StartListener
    _schedule: Callable[[list[int]], None]
    _flushing = False

    def create_process_queues(self) -> Any:
        """The pipes of one process."""
        queues = super().create_process_queues()
        outq: Any = queues[1]
        outq.start_pipe, outq.termination = StartPipe(), TerminationFlag()
        return queues

    def WorkerProcess(self, worker: Any) -> Any:
        """Make a process, which ends when the worker terminates it."""
        process = super().WorkerProcess(worker)
        flag: TerminationFlag = process.outq.termination
        flag.clear()
        terminate: Callable[[], None] = process.terminate

        def set_and_terminate() -> None:
            flag.set()
            terminate()

        process.terminate = set_and_terminate
        return process

    def terminate_job(self, pid: int, sig: int | None = None) -> None:
        """End the task that a process runs, by ending the process with this signal (SIGTERM)."""
        process, _index = self._process_by_pid(pid)
        if process is not None:
            process.outq.termination.set()
        super().terminate_job(pid, sig)

    def register_with_event_loop(self, hub: Any) -> None:
        """Let the loop watch the processes; called at each connection. First read what they have sent meanwhile.

        Without that, the loop would look at its timers first, and Celery would kill a process that has started while
        there was no connection: it has not read that the process is up.
        """
        super().register_with_event_loop(hub)
        for process in list(self._pool):
            self._read(process)

    def flush(self) -> None:
        """Wait until processes have started their jobs; give other jobs back. Called at a stop or a lost connection.

        After a lost connection, a job that a process has and has not started stays its job: the process will run it, so
        Celery must not forget it, and nobody else may get it.
        """
        self._flushing = True
        kept: dict[int, Any] = {}
        try:
            self.wait_for_starts()
            if not is_stopping():
                kept = {job._job: job for job in self._unstarted_jobs() if not _is_being_written(job)}
            for number in kept:
                del self._cache[number]
            super().flush()
        finally:
            self._cache.update(kept)
            for job in kept.values():
                self._keep(job)
            self._flushing = False

    def _keep(self, job: Any) -> None:
        """Expect that the process runs this job; give the job to another one if the process has died."""
        process = job._write_to
        if process._is_alive():
            self._busy_workers.add(process.inqW_fd)
        else:
            self.on_job_process_down(job, process.pid)

    def wait_for_starts(self) -> None:
        """Wait until the processes have started their jobs and the worker knows it, for at most `START_SECONDS`."""
        deadline = time.monotonic() + START_SECONDS
        while (jobs := self._unstarted_jobs()) and time.monotonic() < deadline:
            for job in jobs:
                self._read(job._write_to)
            time.sleep(0.001)

    def _unstarted_jobs(self) -> list[Any]:
        """The jobs that living processes have and have not started."""
        jobs = [job for job in list(self._cache.values()) if job._write_to and not (job._accepted or job.ready())]
        return [job for job in jobs if job._write_to._is_alive()]

    def _read(self, process: Any) -> None:
        cast("ResultHandler", self._result_handler).read(process.outqR_fd, process)

    def _create_write_handlers(self, hub: Any, *rest: Any, **options: Any) -> None:
        if self.sched_strategy != asynpool.SCHED_STRATEGY_FAIR:  # other strategies write ahead, in turns of the loop
            super()._create_write_handlers(hub, *rest, **options)
            return
        loop = _Loop(hub)
        super()._create_write_handlers(loop, *rest, **options)
        self._schedule = loop.consolidate_callback
        self._start_listener = self._listen(hub)
        self._quick_put = self._put_job
        self.on_poll_start = self._write = self._write_to_idle
        write_through_loops.add(hub)

    def _put_job(self, job: Any) -> None:
        """Queue a job, and write it at once if a process is free."""
        entry = self._cache[job[1][0]]
        entry._payload = _payload(pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
        self.outbound_buffer.append(entry)
        self._write()

    def _write_to_idle(self) -> None:
        busy, pipes, writing = self._busy_workers, self._all_inqueues, self._active_writes
        if not self.outbound_buffer or len(busy) >= len(pipes) or self._flushing:
            return
        idle = [descriptor for descriptor in pipes if descriptor not in busy and descriptor not in writing]
        if not idle:
            return
        self._schedule(idle)
        for descriptor in idle:
            if descriptor in busy and descriptor in self._fileno_to_inq:
                self._start_listener.expect(self._fileno_to_inq[descriptor])

    def _listen(self, hub: Any) -> StartListener:
        handler = cast("ResultHandler", self._result_handler)
        if self._listener is None:

            def on_started(job: int, at: float, pid: int) -> None:
                handler.on_state_change((ACK, (job, None, at, pid, None)))

            self._listener = handler.listener = StartListener(hub, on_started)
        self._listener.attach()
        return self._listener

    def on_job_ready(self, job: Any, i: Any, obj: Any, inqW_fd: int) -> None:
        """Called when a process has finished its job: give it the next one before the result is processed."""
        super().on_job_ready(job, i, obj, inqW_fd)
        self._write()

    def _write(self) -> None:
        """Give waiting jobs to idle processes. Replaced when the loop starts; does nothing before."""

    def process_flush_queues(self, proc: Any) -> None:
        """Called when a process has died: read what it has sent."""
        reader = proc.outq._reader
        if not reader.closed and self._state != asynpool.TERMINATE:
            cast("ResultHandler", self._result_handler).read_all(reader.fileno(), proc)


class TaskPool(prefork.TaskPool):
    """Celery's prefork pool."""

    Pool = AsynPool

    def wait_for_starts(self) -> None:
        """Wait until the worker knows which tasks its processes have started."""
        if isinstance(self._pool, AsynPool):
            self._pool.wait_for_starts()


class _Loop:
    """Stands for the event loop where the pool writes. It lets the pool remove writers that are not watched."""

    consolidate_callback: Any

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self.add, self.remove, self.add_writer = hub.add, hub.remove, hub.add_writer

    def remove_writer(self, descriptor: int) -> None:
        """Stop watching it for writing, if it is watched."""
        if descriptor in self._hub.writers:
            self._hub.remove_writer(descriptor)


def _is_being_written(job: Any) -> bool:
    """True while only a part of the job is in the pipe, which Celery completes or takes back."""
    writer = getattr(job, "_writer", None)  # a weak reference to Celery's generator
    return writer is not None and writer() is not None


def _payload(body: bytes) -> tuple[memoryview, memoryview, int]:
    """A job as Celery writes it: head, body, and size of the body. A job that fits into one write is all head."""
    head = _LENGTH.pack(len(body))
    if len(head) + len(body) <= PIPE_BUF:
        return memoryview(head + body), _EMPTY, 0
    return memoryview(head), memoryview(body), len(body)


def _messages(data: bytes) -> tuple[list[Any], int]:
    """The complete messages in the data, and the offset at which they end."""
    found, at, last = list[Any](), 0, len(data) - _LENGTH.size
    while at <= last:
        end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            break
        found.append(pickle.loads(data[at + _LENGTH.size : end]))  # noqa: S301 - sent by a child of this process
        at = end
    return found, at
