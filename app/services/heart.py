"""Keeps the leases of the tasks that this process runs, and interrupts those that were asked to stop.

One daemon thread per process. It renews every few seconds also while a task keeps the main thread busy.
A task that must stop gets `TaskCancelled` raised in its own thread, at its next Python instruction: the same
in every pool. A call into C that never returns is left to the time limits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Thread, get_ident

from app.core.errors import PlatformError, TaskCancelled
from app.core.logging import logger
from app.db.models import TaskRun
from app.services.executions import Executions

log = logger(__name__)


@dataclass(slots=True)
class _Held:
    """One running attempt and the thread that runs it."""

    run: TaskRun
    thread: int
    interrupted: bool = False


class Heart:
    """The leases of one process."""

    def __init__(self, executions: Executions, *, lease_seconds: float) -> None:
        self._executions = executions
        self._every = min(lease_seconds / 5, 2.0)
        self._held: dict[str, _Held] = {}
        self._changed = Condition()
        self._thread: Thread | None = None

    @contextmanager
    def holding(self, run: TaskRun) -> Generator[None]:
        """Keep the lease of a running task while the block lasts; TaskCancelled may be raised in it, not after it."""
        self._begin(run)
        try:
            yield
        finally:
            self._end_surely(run)

    def _begin(self, run: TaskRun) -> None:
        with self._changed:
            self._held[run.id] = _Held(run, get_ident())
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._beat, name="laneway-heart", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _end_surely(self, run: TaskRun) -> None:
        """End the holding also when the interruption arrives just now; there is one at most."""
        try:
            self._end(run)
        except TaskCancelled:
            self._end(run)

    def _end(self, run: TaskRun) -> None:
        with self._changed:
            held = self._held.pop(run.id, None)
            if held and held.interrupted:
                _raise_in(held.thread, None)  # one that was not delivered yet must not hit what comes next

    def _beat(self) -> None:
        while True:
            with self._changed:
                while not self._held:
                    self._changed.wait()
                self._changed.wait(self._every)
                owned = [(held.run.id, held.run.attempts) for held in self._held.values()]
            if owned:
                self._renew(owned)

    def _renew(self, owned: list[tuple[str, int]]) -> None:
        try:
            answers = self._executions.renew(owned)
        except PlatformError as error:
            log.warning("leases not renewed, will try again", error=str(error))
            return
        for id, attempt in owned:
            asked_to_stop = answers.get(id)
            if asked_to_stop is None:
                self._interrupt(id, attempt, "its lease was lost")
            elif asked_to_stop:
                self._interrupt(id, attempt, "it was cancelled")

    def _interrupt(self, id: str, attempt: int, why: str) -> None:
        with self._changed:
            held = self._held.get(id)
            if held is None or held.run.attempts != attempt or held.interrupted:
                return
            held.interrupted = True
            held.run.cancel_requested = True
            _raise_in(held.thread, TaskCancelled)
        log.info("task interrupted", task_id=id, why=why)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
