"""Watches the processes of a prefork pool, and replaces a process that does not start its job.

Celery writes a job into the pipe of one pool process. Its time limits begin when that process reports that it has
started the job. A process that hangs in between (stopped, frozen, waiting for a lock that nobody holds) keeps the job
for ever: the worker is alive and renews the lease, so the lease never expires. The watchdog kills such a process.
Celery then starts another one, and gives a job that was not started to the next idle process. If that does not help
either, the worker stops.

The watchdog counts its own checks, not seconds, so the time in which a machine was suspended does not count.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from celery.concurrency.asynpool import AsynPool
from celery.worker import state

logger = logging.getLogger(__name__)
CHECK_SECONDS = 1.0
CHECKS_UNTIL_REPLACED = 10
CHECKS_UNTIL_GIVING_UP = 60
EXIT_SECONDS = 10.0
"""How long the worker may take to stop gracefully. After that it exits, because its pool may never stop."""


class PoolWatchdog:
    """Checks one pool (Celery's `AsynPool`) every second, in the thread of the event loop."""

    def __init__(self, pool: Any, *, give_up: Callable[[], None]) -> None:
        self._pool, self._give_up = pool, give_up
        self._idle_with_job: dict[int, tuple[int, int]] = {}
        """Idle process → (the job that it should start, for how many checks)."""
        self._stalled = (-1, 0)
        """(The oldest job that waits while the pool runs nothing, for how many checks)."""

    def check(self) -> None:
        """Replace processes that do not start the job that waits for them; give up when the pool starts nothing."""
        jobs = [job for job in list(self._pool._cache.values()) if not job.ready()]
        waiting = [job for job in jobs if not job._accepted]
        running: set[int] = {pid for job in jobs for pid in job.worker_pids()}
        idle_with_job: dict[int, tuple[int, int]] = {}
        for process in self._idle_processes(running):
            job = _oldest(job for job in waiting if job._write_to in (None, process))
            if job >= 0:
                idle_with_job[process.pid] = _count_check(self._idle_with_job.get(process.pid), job)
        self._idle_with_job = idle_with_job
        for pid, (job, checks) in idle_with_job.items():
            if checks % CHECKS_UNTIL_REPLACED == 0:
                logger.error("Pool process %d has not started job %d for %d checks and is replaced", pid, job, checks)
                _kill(pid)
        self._check_stalled(_oldest(waiting), is_idle=not running)

    def _idle_processes(self, running: set[int]) -> list[Any]:
        starting = self._pool._waiting_to_start
        processes = self._pool._pool
        return [p for p in processes if p.pid not in running and p not in starting and p._is_alive()]

    def _check_stalled(self, job: int, *, is_idle: bool) -> None:
        self._stalled = _count_check(self._stalled, job) if is_idle and job >= 0 else (-1, 0)
        if self._stalled[1] == CHECKS_UNTIL_GIVING_UP:
            logger.critical("The pool starts no job, and new processes do not help: the worker stops. Restart it")
            self._give_up()


def watch_pool(consumer: Any) -> Any:
    """Watch the pool of this worker's consumer, if it is a prefork pool on an event loop.

    Returns the timer, or None. Celery cancels the timer when the worker loses its connection.
    """
    pool = getattr(consumer.pool, "_pool", None)
    if not isinstance(pool, AsynPool) or consumer.hub is None:
        return None
    return consumer.hub.call_repeatedly(CHECK_SECONDS, PoolWatchdog(pool, give_up=_end_worker).check)


def _end_worker() -> None:
    """Stop the worker, which gives its messages back. If its pool never stops, exit; the leases expire."""
    state.should_terminate = os.EX_SOFTWARE
    exit_timer = threading.Timer(EXIT_SECONDS, os._exit, (os.EX_SOFTWARE,))
    exit_timer.daemon = True
    exit_timer.start()


def _count_check(before: tuple[int, int] | None, job: int) -> tuple[int, int]:
    return (job, before[1] + 1) if before and before[0] == job else (job, 1)


def _oldest(jobs: Iterable[Any]) -> int:
    """The number of the oldest job, or -1."""
    return min((job._job for job in jobs), default=-1)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
