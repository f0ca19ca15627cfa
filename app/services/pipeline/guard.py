"""Runs one command and leaves none of its processes behind: `python -I -S guard.py SPEC`, started by `process.py`.

The guard is a program of its own that uses only the standard library, because it must outlive the worker. When the
worker dies in any way, its end of the control pipe closes, and the guard ends the command with all its descendants.

1. Standard input is the control pipe. A byte means that the worker lives. The end of the pipe, or a long silence, means
   that the worker is dead.
2. The command runs in its own session, without standard input, and writes to the guard's standard output. If the guard
   is killed, the kernel kills the command (Linux).
3. The guard ends the command when its time is up, or when the worker asks for it or is gone: SIGTERM first, SIGKILL
   after the grace period. It also ends what the command leaves behind: orphaned descendants become children of the
   guard (PR_SET_CHILD_SUBREAPER).
4. The command is confined (`laneway.confinement`). Where the kernel allows it, it runs in a process namespace of its
   own: its first process is a child of the guard, with whose end the kernel kills all others.
5. The guard writes lines of JSON to the status pipe: what the kernel did not give (`missing`, `open`) or why the
   command must not run (`refused`), the command's process `group`, and how it ended: `how`, `code`, `signal`, `detail`.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL_SECONDS, KILL_SECONDS = 0.02, 5.0
"""The pause between two checks for remaining processes, and how long the guard repeats SIGKILL."""


def main() -> None:
    """Run the command of the specification and write the report."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    sys.path.append(spec["library"])
    os.set_inheritable(spec["status_fd"], False)
    temporary = tempfile.mkdtemp(prefix="laneway-")
    try:
        report = Guard(spec, temporary=temporary).run()
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    os.write(spec["status_fd"], json.dumps(report).encode())


class Guard:
    """Runs one command. Times are in seconds."""

    def __init__(self, spec: dict[str, Any], *, temporary: str) -> None:
        self.spec, self.temporary = spec, temporary
        self.status: int | None = None
        self.worker_seen_at = time.monotonic()
        self.wakeup, wakeup_writer = os.pipe()
        os.set_blocking(wakeup_writer, False)
        signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._handle_signal)
        self.stop_requested = False
        self.command_pid = self.first_pid = 0
        self.own_processes_missing = ""

    def run(self) -> dict[str, Any]:
        """Run the command, end all its processes, and return the report."""
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            os.fchdir(self.spec["folder_fd"])
            self._separate_processes()
            self.command_pid = self._start()
            self._report({"group": self.command_pid})
        except OSError as error:
            return {
                "how": "not started",
                "code": None,
                "signal": None,
                "detail": f"{error.filename or 'the command'}: {error.strerror}",
            }
        deadline = time.monotonic() + self.spec["timeout"]
        how = self._wait(deadline)
        remaining = self._end_processes(grace=self.spec["grace"])
        self._end_namespace()
        detail = f"{remaining} processes could not be ended" if remaining else ""
        return {"how": how, **self._exit_status(), "detail": detail}

    def _separate_processes(self) -> None:
        """Make a process namespace for the command, and its first process, which ends with the guard."""
        from laneway.confinement import namespaces

        try:
            namespaces.unshare(namespaces.NEW_PROCESSES)
        except OSError as error:
            self.own_processes_missing = error.strerror or str(error)
            return
        reader, _writer = os.pipe()  # The guard's end stays open as long as the guard lives.
        self.first_pid = os.fork()
        if not self.first_pid:
            _be_first_process(reader)
        os.close(reader)

    def _start(self) -> int:
        guard_pid = os.getpid()

        def prepare() -> None:
            self._confine()
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if not self.first_pid and os.getppid() != guard_pid:  # The guard died before the call.
                os._exit(1)

        child = subprocess.Popen(  # noqa: S603  the configuration allows it  # pylint: disable=subprocess-popen-preexec-fn
            self.spec["argv"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509  The guard has no threads.
            env={**os.environ, "TMPDIR": self.temporary},
        )
        child.returncode = 0  # `_reap` collects its status, so Popen must not.
        return child.pid

    def _confine(self) -> None:
        """In the command's process: take its rights away, and report what the kernel did not give."""
        from laneway.confinement.confine import Confinement, confine

        wanted = self.spec["confinement"]
        try:
            if wanted["user"] is not None:
                os.chown(self.temporary, wanted["user"], wanted["group"])
            given = Confinement(**wanted)
            outcome = confine(replace(given, temporary=self.temporary, proc=bool(self.first_pid)))
        except Exception as error:  # noqa: BLE001  Whatever it is, the command must not run with more rights.
            self._report({"refused": str(error)})
            os._exit(126)
        if self.own_processes_missing:
            outcome.missing["process namespace"] = self.own_processes_missing
        self._report({"missing": outcome.missing, "open": outcome.open})

    def _report(self, line: dict[str, Any]) -> None:
        os.write(self.spec["status_fd"], json.dumps(line).encode() + b"\n")

    def _wait(self, deadline: float) -> str:
        """Wait until the command exits, its time is up, or the worker stops it or falls silent; returns which."""
        while True:
            self._reap()
            if self.status is not None:
                return "exited"
            now = time.monotonic()
            if self.stop_requested:
                return "stopped"
            if now >= deadline:
                return "timeout"
            if now >= self.worker_seen_at + self.spec["worker_timeout"]:
                return "silence"
            timeout = min(deadline, self.worker_seen_at + self.spec["worker_timeout"]) - now
            ready, _, _ = select.select([0, self.wakeup], [], [], max(timeout, POLL_SECONDS))
            if self.wakeup in ready:
                os.read(self.wakeup, 4096)
            if 0 in ready:
                self.worker_seen_at = time.monotonic()
                if not os.read(0, 4096):
                    self.stop_requested = True

    def _end_processes(self, *, grace: float) -> int:
        """End all processes of the command; returns how many remain."""
        if self._signal_all(signal.SIGTERM):
            until = time.monotonic() + grace
            while self._remaining() and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
        until = time.monotonic() + KILL_SECONDS
        while self._signal_all(signal.SIGKILL) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        return len(self._remaining())

    def _end_namespace(self) -> None:
        """End the first process of the namespace. It is gone when the kernel has ended all others."""
        with suppress(ProcessLookupError, ChildProcessError):
            if self.first_pid:
                os.kill(self.first_pid, signal.SIGKILL)
                os.waitpid(self.first_pid, 0)

    def _signal_all(self, number: int) -> int:
        """Send a signal to all remaining processes; returns their number."""
        remaining = self._remaining()
        for pid in remaining:
            try:
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)  # A stopped process would not receive SIGTERM.
            except (ProcessLookupError, PermissionError):  # It has ended, or it belongs to another user and counts.
                continue
        return len(remaining)

    def _remaining(self) -> list[int]:
        self._reap()
        if sys.platform != "linux":
            return self._group()
        return [pid for pid in descendants(os.getpid()) if pid != self.first_pid]

    def _group(self) -> list[int]:
        """The command's process group, for systems without /proc."""
        try:
            os.killpg(self.command_pid, 0)
        except (ProcessLookupError, PermissionError):
            return []
        return [-self.command_pid]

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.command_pid:
                self.status = status

    def _exit_status(self) -> dict[str, int | None]:
        if self.status is None:
            return {"code": None, "signal": None}
        code = os.waitstatus_to_exitcode(self.status)
        return {"code": code, "signal": None} if code >= 0 else {"code": None, "signal": -code}

    def _handle_signal(self, number: int, _frame: object) -> None:
        self.stop_requested = self.stop_requested or number != signal.SIGCHLD


def _be_first_process(control: int) -> None:
    """Be the first process of the namespace until the guard ends: adopt and reap what loses its parent."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(control, 0)
    os.closerange(1, 4096)
    os.chdir("/")
    os.read(0, 1)
    os._exit(0)


def descendants(root: int) -> list[int]:
    """The descendants of a process, without zombies."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()  # A process name may not be UTF-8.
        except OSError:
            continue
        if fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    pending = [root]
    while pending:
        direct = children.get(pending.pop(), [])
        found += direct
        pending += direct
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
