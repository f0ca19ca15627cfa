"""Runs one command and sees to it that nothing of it is left: `python -I -S guard.py SPEC`, started by `process.py`.

A program of its own, on the standard library alone, as it must outlive the worker that started it: when the worker
dies, however it dies, its end of the control pipe closes, and the command is ended with everything that it started.

1. Standard input is the control pipe. A byte says that the worker lives; its end, or a long silence, that it does not.
2. The command runs in a session of its own, with standard input closed, and writes into the guard's standard output.
   If the guard itself is killed, the kernel kills the command (Linux).
3. It is ended, SIGTERM first and SIGKILL after a time of grace, when its time is up or the worker says so or is gone.
   What it leaves behind is ended, too: descendants that nobody waits for come to the guard (PR_SET_CHILD_SUBREAPER).
4. Two lines of JSON go to the status pipe: its process `group`, and how it ended: `how`, `code`, `signal`, `detail`.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_SECONDS, LAST_SECONDS = 0.02, 5.0
"""Between two looks at what is left, and for how long it is killed again and again."""


def main() -> None:
    """Read what is asked for, run it, and report."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    os.set_inheritable(spec["status_fd"], False)
    report = Guard(spec).run()
    os.write(spec["status_fd"], json.dumps(report).encode())


class Guard:
    """One command. Times in seconds."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.status: int | None = None
        self.ended_at: float | None = None
        self.heard_at = time.monotonic()
        self.wakened, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        self.told = False
        self.main = 0

    def run(self) -> dict[str, Any]:
        """Until nothing of it is left."""
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            os.fchdir(self.spec["folder_fd"])
            self.main = self._start()
            os.write(self.spec["status_fd"], json.dumps({"group": self.main}).encode() + b"\n")
        except OSError as error:
            return {
                "how": "not started",
                "code": None,
                "signal": None,
                "detail": f"{error.filename or 'it'}: {error.strerror}",
            }
        deadline = time.monotonic() + self.spec["timeout"]
        how = self._wait(deadline)
        left = self._end(grace=self.spec["grace"])
        return {"how": how, **self._exit(), "detail": f"{left} processes could not be ended" if left else ""}

    def _start(self) -> int:
        own = os.getpid()

        def as_child() -> None:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != own:  # the guard died before that
                os._exit(1)

        child = subprocess.Popen(  # noqa: S603  the configuration allows it  # pylint: disable=subprocess-popen-preexec-fn
            self.spec["argv"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=as_child,  # noqa: PLW1509  there are no threads here
        )
        child.returncode = 0  # it is reaped here, with all others
        return child.pid

    def _wait(self, deadline: float) -> str:
        """Until it exits, its time is up, or the worker wants no more; which of them it was."""
        while True:
            self._reap()
            if self.status is not None:
                return "exited"
            now = time.monotonic()
            if self.told:
                return "told"
            if now >= deadline:
                return "timeout"
            if now >= self.heard_at + self.spec["silence"]:
                return "silence"
            until = min(deadline, self.heard_at + self.spec["silence"]) - now
            ready, _, _ = select.select([0, self.wakened], [], [], max(until, LOOK_SECONDS))
            if self.wakened in ready:
                os.read(self.wakened, 4096)
            if 0 in ready:
                self.heard_at = time.monotonic()
                if not os.read(0, 4096):
                    self.told = True

    def _end(self, *, grace: float) -> int:
        """End everything; how many processes are left in spite of it."""
        if self._send(signal.SIGTERM):
            until = time.monotonic() + grace
            while self._left() and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
        until = time.monotonic() + LAST_SECONDS
        while self._send(signal.SIGKILL) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        return len(self._left())

    def _send(self, number: int) -> int:
        """Send a signal to all that is left; to how many."""
        left = self._left()
        for pid in left:
            try:
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)  # one that stands still would not hear of it
            except (ProcessLookupError, PermissionError):  # it is gone; or it runs as another user, and is counted
                continue
        return len(left)

    def _left(self) -> list[int]:
        self._reap()
        return descendants(os.getpid()) if sys.platform == "linux" else self._group()

    def _group(self) -> list[int]:
        """Where /proc is missing: the command's process group."""
        try:
            os.killpg(self.main, 0)
        except (ProcessLookupError, PermissionError):
            return []
        return [-self.main]

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.main:
                self.status = status

    def _exit(self) -> dict[str, int | None]:
        if self.status is None:
            return {"code": None, "signal": None}
        code = os.waitstatus_to_exitcode(self.status)
        return {"code": code, "signal": None} if code >= 0 else {"code": None, "signal": -code}

    def _note(self, number: int, _frame: object) -> None:
        self.told = self.told or number != signal.SIGCHLD


def descendants(root: int) -> list[int]:
    """The processes that come from this one, zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "stat").read_bytes().rpartition(b")")[2].split()  # its name need not be text
        except OSError:
            continue
        if words[0] != b"Z":
            children.setdefault(int(words[1]), []).append(int(entry.name))
    found: list[int] = []
    open_ = [root]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
