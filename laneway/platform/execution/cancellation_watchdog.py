"""Interrupts running tasks that were cancelled, or that another worker has taken over.

One daemon thread per process asks at short intervals whether the running attempts still hold their leases and whether
their tasks were cancelled. It does so even while a task keeps the main thread busy.

- A cancelled task has a grace period in which it can stop by itself: when it reports progress, calls
  `raise_if_cancelled`, or begins a step. After that, the watchdog raises `TaskCancelled` in the thread of the task.
- A task that another worker has taken over is interrupted at once: its outcome would be refused anyway.

CPython delivers such an exception between two bytecode instructions, in every kind of pool. So the watchdog cannot
interrupt a call into C that never returns; the time limits end that.

The exception must hit the task and nothing else. Two threads take part, and either may be anywhere in its code:

- The task may end while the watchdog is about to interrupt it. So the watchdog first sets `interrupting`, and checks
  only then whether the attempt is still watched; the end of the attempt first removes it from the watched ones, and
  waits only then until `interrupting` is false. Whichever comes second sees the other.
- The exception may be set and not delivered yet when the task ends. So the end of the attempt clears a pending one.
- The exception may hit the end of the attempt itself. So that code runs twice; there is at most one interruption, and
  the second run is complete. That code takes no lock: an exception between taking and releasing it would leave the
  lock taken for ever, and the next task of the process would hang.
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
from laneway.platform.execution.outcomes import Attempt, AttemptSignal
from laneway.platform.logging import logger

log = logger(__name__)


@dataclass(slots=True, eq=False)
class _WatchedAttempt:
    """A running attempt and the thread that runs it."""

    attempt: Attempt
    thread: int | None
    """None: it is not interrupted, and only told of a cancellation; others run in its thread, too."""
    interrupting: bool = False
    """The watchdog is about to interrupt the attempt, or to find out that it has ended."""
    interrupted: bool = False
    cancelled_at: float = 0.0
    """Monotonic time at which the watchdog first saw that the task was cancelled; 0: not cancelled so far."""


class CancellationWatchdog:
    """Watches the attempts that one process runs."""

    def __init__(self, attempts: Attempts, *, every: float, grace: float) -> None:
        """`every`: seconds between two checks. `grace`: seconds that a cancelled task has to stop by itself."""
        self._attempts, self._every, self._grace = attempts, every, grace
        self._watched: set[_WatchedAttempt] = set()
        self._lock, self._has_work = Lock(), Event()
        self._thread: Thread | None = None

    @contextmanager
    def watch(self, attempt: Attempt, *, interrupt: bool = True) -> Generator[None]:
        """Watch an attempt while the block runs. TaskCancelled may be raised inside the block, never after it.

        `interrupt`: False only notes in the attempt that its task was cancelled.
        """
        watched = _WatchedAttempt(attempt, get_ident() if interrupt else None)
        try:
            try:
                self._add(watched)
                yield
            finally:
                self._remove(watched)
        finally:
            self._remove(watched)  # the interruption may have hit the first call; there is no second interruption

    def _add(self, watched: _WatchedAttempt) -> None:
        with self._lock:  # safe here: the attempt is not watched yet, so nothing can interrupt this block
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="laneway-cancellation-watchdog", daemon=True)
                self._thread.start()
            self._has_work.set()
            self._watched.add(watched)

    def _remove(self, watched: _WatchedAttempt) -> None:
        self._watched.discard(watched)
        while watched.interrupting:
            sleep(0)
        if watched.interrupted and watched.thread is not None:
            _raise_in_thread(watched.thread, None)  # clears an exception that was not delivered yet

    def _run(self) -> None:
        while True:
            self._has_work.wait()
            sleep(self._every)
            with self._lock:
                watched = list(self._watched)
                if not watched:
                    self._has_work.clear()
            if watched:
                self._check(watched)

    def _check(self, watched: list[_WatchedAttempt]) -> None:
        try:
            signals = self._attempts.check_cancelled([each.attempt for each in watched])
        except PlatformError as error:
            log.warning("cancelled tasks not checked, will check again", error=str(error))
            return
        except Exception:
            log.exception("cancelled tasks not checked, will check again")
            return
        for each, signal in zip(watched, signals, strict=True):
            if signal is AttemptSignal.LOST:
                self._interrupt(each, "another worker has taken it over")
            elif signal is AttemptSignal.CANCEL:
                self._handle_cancel(each)

    def _handle_cancel(self, watched: _WatchedAttempt) -> None:
        watched.attempt.cancel_requested = True
        watched.cancelled_at = watched.cancelled_at or monotonic()
        if monotonic() - watched.cancelled_at >= self._grace:
            self._interrupt(watched, "it was cancelled")

    def _interrupt(self, watched: _WatchedAttempt, reason: str) -> None:
        if watched.thread is None:
            watched.attempt.cancel_requested = True
            return
        watched.interrupting = True  # before the check: from here on, `_remove` waits for this method
        try:
            if watched.interrupted or watched not in self._watched:
                return
            watched.interrupted = watched.attempt.interrupted = watched.attempt.cancel_requested = True
            _raise_in_thread(watched.thread, TaskCancelled)
        finally:
            watched.interrupting = False
        log.info("task interrupted", task_id=watched.attempt.task_id, reason=reason)


def _raise_in_thread(thread: int, error: type[BaseException] | None) -> None:
    """Set the exception that CPython raises at the thread's next bytecode instruction; None clears a pending one."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
