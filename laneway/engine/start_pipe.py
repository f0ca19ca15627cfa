"""How a process of the pool says that it has begun a task, without waking the worker for that.

Celery's pool processes send that message through the pipe of their results: the worker wakes, takes note, and waits
again, for each task once more than for its result. Here it lies in a pipe of its own that the worker reads before
the result, when the process is over, before it lets go of what was not begun, and `LATEST` after it wrote the job;
from then on it watches the pipe until the message is there. So time limits, `task-started` and `revoke(terminate=True)`
may be so much behind, but nothing is taken for not begun that was.

Tasks that ack early tell at once, as ever: their message ends with it.
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

LATEST = 0.005
"""Seconds."""
_SAID = struct.Struct("=qd")
_CHUNK = _SAID.size * 256


class StartPipe:
    """The pipe of one process: job number and time (monotonic seconds) of each task that it begins."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, _close, self.descriptor, self._write).atexit = False

    def say(self, job: int, at: float) -> bool:
        """In the process: a task is begun. False if nobody reads here."""
        try:
            os.write(self._write, _SAID.pack(job, at))
        except OSError:
            return False
        return True

    def heard(self) -> Iterator[tuple[int, float]]:
        """In the worker: what was said since the last time."""
        try:
            return _SAID.iter_unpack(os.read(self.descriptor, _CHUNK))
        except BlockingIOError:
            return iter(())


class Listener:
    """In the worker: hears the processes that were given a job and have not yet begun it."""

    def __init__(self, hub: Any, begun: Callable[[int, float, int], None]) -> None:
        """`begun`: told of each task, its time and its process id."""
        self._hub, self._begun = hub, begun
        self._waiting: dict[int, Any] = {}
        self._ear, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, _close, self._ear, self._bell).atexit = False
        self.reading = False
        """True while the loop hands out what it has read: it looks at its timers before it waits again."""
        self._due = 0.0
        self._hearing = threading.RLock()
        """While a worker stops, Celery runs the loop's timers in a thread of their own."""

    def expect(self, proc: Any) -> None:
        """This process was given a job."""
        self._waiting[_pipe(proc).descriptor] = proc
        now = time.monotonic()
        if now >= self._due:
            self._due = now + LATEST
            self._hub.call_later(LATEST, self._late)
            if not self.reading:  # the loop has decided how long it waits: a byte ends that
                self._ring()

    def attach(self) -> None:
        """To be called whenever the loop begins anew: it watches nothing then."""
        self._hub.add_reader(self._ear, self._rung)

    def hear(self, proc: Any) -> None:
        """Take in what this process has said."""
        with self._hearing:
            for job, at in _pipe(proc).heard():
                self.forget(proc)
                self._begun(job, at, proc.pid)

    def hear_all(self) -> None:
        """Take in what all of them have said."""
        for proc in list(self._waiting.values()):
            self.hear(proc)

    def forget(self, proc: Any) -> None:
        """This process has begun its job, or is over."""
        descriptor = _pipe(proc).descriptor
        if self._waiting.get(descriptor) is proc:
            del self._waiting[descriptor]
        if descriptor in self._hub.readers:
            self._hub.remove_reader(descriptor)

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._bell, b"!")

    def _rung(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._ear, _CHUNK)

    def _late(self) -> None:
        self._due = 0.0
        self.hear_all()
        for descriptor, proc in self._waiting.items():
            if descriptor not in self._hub.readers:
                self._hub.add_reader(descriptor, self.hear, proc)


def _pipe(proc: Any) -> StartPipe:
    return proc.outq.beginnings


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
