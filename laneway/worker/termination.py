"""Lets the processes of a pool tell a SIGTERM of their worker from one that was sent to the whole group.

systemd, `docker kill` and `kill -- -PGID` send SIGTERM, or SIGHUP, to a worker and to the processes of its pool. The
worker then stops warmly: it waits for its running tasks. Celery's pool processes would end at once, and with them the
tasks for which the worker waits. Here a process ends at such a signal only if the worker has sent it: to revoke a task,
to enforce a time limit, to shrink the pool, or in a cold shutdown. The worker says so beforehand in a byte of memory
that it shares with the process.

SIGKILL, and SIGQUIT (Celery's cold shutdown), end a process as always. With `REMAP_SIGTERM` nothing is changed:
Celery's processes then ignore SIGTERM themselves.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable
from typing import Any

from billiard.common import REMAP_SIGTERM

LEFT_TO_THE_WORKER = (signal.SIGTERM, signal.SIGHUP)


class TerminationFlag:
    """One byte that a worker and one process of its pool share: whether the process is to end at SIGTERM."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)  # anonymous and shared: made before the fork

    def set(self) -> None:
        """Let the process end at the next signal."""
        self._byte[0] = 1

    def clear(self) -> None:
        """Let the process leave signals to the worker."""
        self._byte[0] = 0

    @property
    def is_set(self) -> bool:
        """Whether the process is to end at the next signal."""
        return self._byte[0] == 1


def leave_signals_to_worker(flag: TerminationFlag) -> None:
    """In a process of the pool: end at SIGTERM and SIGHUP only when the flag is set.

    A process that the task forks ends as always: the task itself may want to end it.
    """
    if REMAP_SIGTERM:
        return
    process = os.getpid()
    for number in LEFT_TO_THE_WORKER:
        end: Any = signal.getsignal(number)  # billiard's handler, which raises SystemExit
        if callable(end):
            signal.signal(number, _handler(end, flag, process))


def _handler(end: Callable[[int, Any], object], flag: TerminationFlag, process: int) -> Callable[[int, Any], None]:
    def handle(number: int, frame: Any) -> None:
        if flag.is_set or os.getpid() != process:
            end(number, frame)

    return handle
