"""Pipes through which the processes of a pool report started tasks without waking the worker.

Celery's pool processes send this report through the pipe of their results. The worker wakes up, handles it and waits
again, so it wakes up twice for each task. Here each process writes the report to a separate pipe. The worker reads this
pipe at four times: before it reads a result, when the process has ended, before it gives back tasks that were not
started, and `READ_DELAY_SECONDS` after it wrote the job. If the report has not come by then, the worker watches the
pipe until it comes. So time limits, `task-started` and `revoke(terminate=True)` may take effect `READ_DELAY_SECONDS`
later. But the worker never takes a started task for one that was not started.

A task that acks early reports through Celery's pipe, because the worker acks its message when the report comes.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

READ_DELAY_SECONDS = 0.005
"""Seconds after which the worker reads the pipe of a process that was given a job."""
_REPORT = struct.Struct("=qd")
_CHUNK = _REPORT.size * 256


class StartPipe:
    """The pipe of one process. A report consists of the job number and the time (monotonic seconds) of the start."""

    def __init__(self) -> None:
        self.descriptor, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, _close, self.descriptor, self._write_end).atexit = False

    def write(self, job: int, at: float) -> bool:
        """Report that a task has started. The pool process calls it. Returns False when the pipe is full or broken."""
        try:
            os.write(self._write_end, _REPORT.pack(job, at))
        except OSError:
            return False
        return True

    def read(self) -> Iterator[tuple[int, float]]:
        """Read the reports that have come since the last read. The worker calls it."""
        try:
            return _REPORT.iter_unpack(os.read(self.descriptor, _CHUNK))
        except BlockingIOError:
            return iter(())


class StartListener:
    """Runs in the worker: reads the pipes of the processes that have a job and have not reported its start."""

    def __init__(self, hub: Any, on_start: Callable[[int, float, int], None]) -> None:
        """`on_start` is called with the job number, the time and the process id of each started task."""
        self._hub, self._on_start = hub, on_start
        self._waiting: dict[int, Any] = {}
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, _close, self._wake_reader, self._wake_writer).atexit = False
        self.reading = False
        """True while the event loop handles a result. It checks its timers after that, so it needs no wake-up."""
        self._due = 0.0
        self._lock = threading.RLock()
        """Needed because Celery runs the event loop's timers in another thread while a worker stops."""

    def expect(self, proc: Any) -> None:
        """Expect a report from this process, which was given a job."""
        self._waiting[_pipe(proc).descriptor] = proc
        now = time.monotonic()
        if now >= self._due:
            self._due = now + READ_DELAY_SECONDS
            self._hub.call_later(READ_DELAY_SECONDS, self._read_late)
            if not self.reading:  # the loop has already chosen how long it waits; a byte ends that wait
                self._wake_loop()

    def attach(self) -> None:
        """Watch the pipes. Call this each time the event loop starts, because a loop starts with no pipes."""
        self._hub.add_reader(self._wake_reader, self._on_wake)
        self._watch_waiting()

    def read(self, proc: Any) -> None:
        """Read and handle the reports of this process."""
        with self._lock:
            for job, at in _pipe(proc).read():
                self.forget(proc)
                self._on_start(job, at, proc.pid)

    def read_all(self) -> None:
        """Read and handle the reports of all processes whose report is expected."""
        for proc in list(self._waiting.values()):
            self.read(proc)

    def forget(self, proc: Any) -> None:
        """Expect no more report from this process: it has started its job, or has ended."""
        descriptor = _pipe(proc).descriptor
        if self._waiting.get(descriptor) is proc:
            del self._waiting[descriptor]
        if descriptor in self._hub.readers:
            self._hub.remove_reader(descriptor)

    def _wake_loop(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_writer, b"!")

    def _on_wake(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake_reader, _CHUNK)

    def _read_late(self) -> None:
        self._due = 0.0
        self.read_all()
        self._watch_waiting()

    def _watch_waiting(self) -> None:
        for descriptor, proc in self._waiting.items():
            if descriptor not in self._hub.readers:
                self._hub.add_reader(descriptor, self.read, proc)


def _pipe(proc: Any) -> StartPipe:
    return proc.outq.start_pipe


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
