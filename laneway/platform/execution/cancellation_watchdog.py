"""Watches over the tasks that this process runs, and interrupts those that were asked to stop or have been taken over.

One daemon thread per process. It looks every few seconds also while a task keeps the main thread busy.
A task that was cancelled finds out when it reports progress, asks (`raise_if_cancelled`), or begins a step. After a
time of grace it gets `TaskCancelled` raised in its own thread, at its next Python instruction, in every pool alike.
One that was taken over gets it at once. A call into C that never returns is left to the time limits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread, get_ident
from time import monotonic, sleep

from laneway.platform.errors import PlatformError, TaskCancelled
from laneway.platform.execution.attempts import Attempts
from laneway.platform.execution.outcomes import Attempt
from laneway.platform.logging import logger

log = logger(__name__)


@dataclass(slots=True, eq=False)
class _Held:
    """One running attempt and the thread that runs it."""

    attempt: Attempt
    thread: int
    interrupting: bool = False
    """The heart is about to interrupt it, or to find that it is over."""
    interrupted: bool = False
    asked_at: float = 0.0


class CancellationWatchdog:
    """What one process runs."""

    def __init__(self, executions: Attempts, *, every: float, grace: float) -> None:
        """`every`, `grace`: seconds between two looks, and from the first sign of a cancel to the interruption."""
        self._attempts, self._every, self._grace = executions, every, grace
        self._held: set[_Held] = set()
        self._lock, self._busy = Lock(), Event()
        self._thread: Thread | None = None

    @contextmanager
    def holding(self, attempt: Attempt) -> Generator[None]:
        """Watch over a running task while the block lasts; TaskCancelled may be raised in it, not after it."""
        held = _Held(attempt, get_ident())
        try:
            try:
                self._begin(held)
                yield
            finally:
                self._end(held)
        finally:
            self._end(held)  # again, in case the first one was interrupted; there is one interruption at most

    def _begin(self, held: _Held) -> None:
        with self._lock:  # it is not held yet, and cannot be interrupted
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._beat, name="laneway-heart", daemon=True)
                self._thread.start()
            self._busy.set()
            self._held.add(held)

    def _end(self, held: _Held) -> None:
        """No lock here: an interruption between taking and releasing one would leave it taken for ever."""
        self._held.discard(held)
        while held.interrupting:
            sleep(0)
        if held.interrupted:
            _raise_in(held.thread, None)  # one that was not delivered yet must not hit what comes next

    def _beat(self) -> None:
        while True:
            self._busy.wait()
            sleep(self._every)
            with self._lock:
                owned = list(self._held)
                if not owned:
                    self._busy.clear()
            if owned:
                self._look(owned)

    def _look(self, owned: list[_Held]) -> None:
        try:
            answers = self._attempts.asked_to_stop([held.attempt for held in owned])
        except PlatformError as error:
            log.warning("not known whether tasks were cancelled, will look again", error=str(error))
            return
        except Exception:
            log.exception("not known whether tasks were cancelled, will look again")
            return
        for held, asked_to_stop in zip(owned, answers, strict=True):
            if asked_to_stop is None:
                self._interrupt(held, "another worker has taken it over")
            elif asked_to_stop:
                held.attempt.cancel_requested = True
                held.asked_at = held.asked_at or monotonic()
                if monotonic() - held.asked_at >= self._grace:
                    self._interrupt(held, "it was cancelled")

    def _interrupt(self, held: _Held, why: str) -> None:
        held.interrupting = True  # from here on its end waits for us; if it has begun already, it is not held
        try:
            if held.interrupted or held not in self._held:
                return
            held.interrupted = held.attempt.interrupted = held.attempt.cancel_requested = True
            _raise_in(held.thread, TaskCancelled)
        finally:
            held.interrupting = False
        log.info("task interrupted", task_id=held.attempt.task_id, why=why)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
