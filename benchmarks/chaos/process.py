"""A process that the harness starts, disturbs and ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.chaos.plan import ROOT

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


def dies_with_parent() -> None:
    """Let the kernel kill this new child when the harness ends in any way (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class Process:
    """A running program in its own process group; its output goes to a file."""

    def __init__(self, name: str, argv: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self.started = time.monotonic()
        self.stopped = False
        self.ended: float | None = None
        self.expected = False
        """Whether the harness itself ended it."""
        with log.open("ab") as output:
            self._popen = subprocess.Popen(  # noqa: S603
                list(argv),
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=dies_with_parent,  # noqa: PLW1509  this process has one thread
            )
        self.pid = self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it runs or is stopped. The first False records the time of its end."""
        if self._popen.poll() is None:
            return True
        self.ended = self.ended or time.monotonic()
        return False

    @property
    def code(self) -> int | None:
        """Its exit code, or the negative number of the signal that killed it."""
        return self._popen.poll()

    def children(self) -> list[int]:
        """The pids of the worker's pool processes."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children()]
        except psutil.NoSuchProcess:
            return []

    def kill_child(self, pid: int) -> None:
        """Send SIGKILL to a process if it is still a child of this one."""
        with suppress(psutil.NoSuchProcess):
            child = psutil.Process(pid)
            if child.ppid() == self.pid:
                child.kill()

    def kill(self) -> None:
        """Send SIGKILL to the process. The kernel then kills Celery's pool processes, which asked it to."""
        self.expected = True
        self._popen.kill()
        self._popen.wait()
        self.ended = time.monotonic()

    def stop(self) -> None:
        """Send SIGSTOP to it and its children."""
        os.killpg(self.pid, signal.SIGSTOP)
        self.stopped = True

    def resume(self) -> None:
        """Send SIGCONT to it and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGCONT)
        self.stopped = False

    def terminate(self) -> None:
        """Send SIGTERM: it finishes its running work."""
        self.expected = True
        self._popen.terminate()

    def end(self) -> None:
        """Kill the process and its children if they still run."""
        self.expected = True
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        self.ended = self.ended or time.monotonic()

    def last_lines(self, count: int = 5) -> list[str]:
        """The last lines of its output."""
        return self.log.read_text("utf-8", "replace").splitlines()[-count:]
