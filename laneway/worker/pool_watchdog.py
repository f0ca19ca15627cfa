"""Watches the processes of a prefork pool: what a worker was given is begun, or they are replaced.

Celery writes a job into the pipe of one pool process, and starts time limits when that process says that it has
begun. One that stands still in between (stopped, frozen, waiting for a lock that nobody holds) keeps the job for
ever: its worker lives and renews, so no lease runs out. It is killed here; Celery then starts another, and gives
a job that was not begun to the next process that is free. If that does not help either, the worker ends.

The watch counts its own looks, not seconds: a machine that was asleep does not count.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
LOOKS_UNTIL_REPLACED = 10
LOOKS_UNTIL_THE_END = 60
END_SECONDS = 10.0
"""How long the worker may take to end in good order; its pool may not end at all."""


class PoolWatch:
    """One pool (Celery's `AsynPool`), looked at every second in the thread of the event loop."""

    def __init__(self, pool: Any, *, give_up: Callable[[], None]) -> None:
        self._pool, self._give_up = pool, give_up
        self._ignored: dict[int, tuple[int, int]] = {}
        """Idle process → (the job that it should begin, in how many looks)."""
        self._stalled = (-1, 0)

    def look(self) -> None:
        """Replace processes that do not begin what waits for them; give up when nothing is begun at all."""
        jobs = [job for job in list(self._pool._cache.values()) if not job.ready()]
        waiting = [job for job in jobs if not job._accepted]
        running: set[int] = {pid for job in jobs for pid in job.worker_pids()}
        ignored: dict[int, tuple[int, int]] = {}
        for process in self._idle(running):
            job = _first(job for job in waiting if job._write_to in (None, process))
            if job >= 0:
                ignored[process.pid] = _again(self._ignored.get(process.pid), job)
        self._ignored = ignored
        for pid, (job, looks) in ignored.items():
            if looks % LOOKS_UNTIL_REPLACED == 0:
                logger.error("Pool process %d has not begun job %d for %d looks and is replaced", pid, job, looks)
                _kill(pid)
        self._look_at_all(_first(waiting), idle=not running)

    def _idle(self, running: set[int]) -> list[Any]:
        starting = self._pool._waiting_to_start
        return [one for one in self._pool._pool if one.pid not in running and one not in starting and one._is_alive()]

    def _look_at_all(self, job: int, *, idle: bool) -> None:
        self._stalled = _again(self._stalled, job) if idle and job >= 0 else (-1, 0)
        if self._stalled[1] == LOOKS_UNTIL_THE_END:
            logger.critical("The pool begins nothing, new processes do not help: the worker ends. Restart it")
            self._give_up()


def watch_pools() -> None:
    """Have each prefork worker that becomes ready in this process watched; safe to call again."""
    from celery.signals import worker_ready

    worker_ready.connect(_begin, dispatch_uid="laneway.worker.pool_watchdog", weak=False)


def _begin(sender: Any = None, **_: Any) -> None:
    from celery.concurrency.asynpool import AsynPool

    pool = getattr(getattr(sender, "pool", None), "_pool", None)
    if isinstance(pool, AsynPool) and sender.hub is not None:
        sender.hub.call_repeatedly(LOOK_SECONDS, PoolWatch(pool, give_up=_end_worker).look)


def _end_worker() -> None:
    """What the worker holds is given back; or, if its pool does not even end, taken back when its leases run out."""
    from celery.worker import state

    state.should_terminate = os.EX_SOFTWARE
    last = threading.Timer(END_SECONDS, os._exit, (os.EX_SOFTWARE,))
    last.daemon = True
    last.start()


def _again(before: tuple[int, int] | None, job: int) -> tuple[int, int]:
    return (job, before[1] + 1) if before and before[0] == job else (job, 1)


def _first(jobs: Iterable[Any]) -> int:
    """The oldest one's number, or -1."""
    return min((job._job for job in jobs), default=-1)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
