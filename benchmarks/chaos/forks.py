"""Forks inside a task: a child process that uses what it has inherited, and must end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import billiard

PROCESS, FORK = "process", "fork"
WAYS = (PROCESS, FORK)
"""A `Process` of multiprocessing or billiard, which runs what libraries registered for forks; or `os.fork`."""
CHILD_SECONDS = 45.0
"""A child that runs for longer hangs. This is more than any disturbance takes."""


def run_child(way: str, use: Callable[[], object]) -> bool:
    """Run `use` in a forked child, whatever it raises. False: the child hung and was killed."""
    if way == PROCESS:
        # A pool process is a daemon, to which multiprocessing allows no children. Its tasks use billiard's class.
        library: Any = billiard if multiprocessing.current_process().daemon else multiprocessing
        child = library.get_context("fork").Process(target=_use, args=(use,))
        child.start()
        child.join(CHILD_SECONDS)
        if child.exitcode is not None:
            return True
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        return False
    pid = os.fork()
    if not pid:
        try:
            _use(use)
        finally:
            os._exit(0)
    return _wait(pid)


def _use(use: Callable[[], object]) -> None:
    gc.collect()
    with suppress(Exception):  # the server may be away
        use()


def _wait(pid: int) -> bool:
    deadline = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):  # another thread has waited for it
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                time.sleep(0.005)
                continue
        return True
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False
