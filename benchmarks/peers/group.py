"""Child processes, each the head of a process group, so that all of a worker can be paused, measured and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.process import dies_with_parent

LAST_WORDS, LONGEST_LINE = 8000, 300


class PeerFailed(Exception):
    """A driver or a worker ended with an error, or did not end in time."""


class Group:
    """A program and all that it starts."""

    def __init__(
        self, argv: Sequence[str], *, environment: Mapping[str, str], folder: Path, answers: bool = False
    ) -> None:
        self._name = Path(argv[0]).name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  `end` closes it
        self._popen = subprocess.Popen(  # noqa: S603
            list(argv),
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if answers else self._log,
            stderr=self._log,
            start_new_session=True,
            preexec_fn=dies_with_parent,  # noqa: PLW1509  this process has one thread
        )

    @property
    def pid(self) -> int:
        """The process group's number."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether its first process runs."""
        return self._popen.poll() is None

    def answer(self, seconds: float) -> dict[str, Any]:
        """Wait for the end; returns the JSON of the last line. Raises PeerFailed."""
        try:
            output, _ = self._popen.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise PeerFailed(f"{self._name} did not end within {seconds:.0f} s: {self.last_words()}") from None
        if self._popen.returncode:
            raise PeerFailed(f"{self._name} ended with {self._popen.returncode}: {self.last_words()}")
        lines = output.decode().strip().splitlines()
        try:
            return json.loads(lines[-1]) if lines else {}
        except ValueError:
            raise PeerFailed(f"{self._name} answered no JSON: {lines[-1][:LONGEST_LINE]}") from None

    def last_words(self) -> str:
        """The last line of its error output that names an error, or else the last line."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), LAST_WORDS, max(0, size - LAST_WORDS)).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower() and not line.startswith(("at ", "File "))]
        return ((errors or lines)[-1:] or ["no output"])[0][:LONGEST_LINE]

    def pause(self) -> None:
        """Let nothing of it run until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on."""
        self._signal(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """The CPU seconds of all its processes that are there."""
        total = 0.0
        with suppress(psutil.Error):
            root = psutil.Process(self.pid)
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    total += times.user + times.system
        return total

    def end(self) -> None:
        """Kill all of it: its work is measured by then, or worth nothing."""
        self._signal(signal.SIGKILL)
        self._popen.wait()
        if self._popen.stdout:
            self._popen.stdout.close()
        self._log.close()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Groups:
    """Several groups that do the same work together."""

    def __init__(self, members: Sequence[Group]) -> None:
        self._members = list(members)

    def pause(self) -> None:
        """Pause all."""
        for group in self._members:
            group.pause()

    def resume(self) -> None:
        """Let all run on."""
        for group in self._members:
            group.resume()

    def cpu_seconds(self) -> float:
        """The CPU seconds of all."""
        return sum(group.cpu_seconds() for group in self._members)

    def check(self) -> None:
        """Raises PeerFailed if one has ended."""
        for group in self._members:
            if not group.alive:
                raise PeerFailed(f"a worker ended: {group.last_words()}")


@contextmanager
def running(commands: Sequence[Sequence[str]], *, environment: Mapping[str, str], folder: Path) -> Generator[Groups]:
    """Run programs side by side; all are ended at the end of the block, also by an error or Ctrl-C."""
    with ExitStack() as stack:
        members: list[Group] = []
        for argv in commands:
            members.append(Group(argv, environment=environment, folder=folder))
            stack.callback(members[-1].end)
        yield Groups(members)


def call(argv: Sequence[str], *, environment: Mapping[str, str], folder: Path, seconds: float) -> dict[str, Any]:
    """Run a program to its end; returns the JSON that it prints. Raises PeerFailed."""
    group = Group(argv, environment=environment, folder=folder, answers=True)
    try:
        return group.answer(seconds)
    finally:
        group.end()


def stop_at_signals() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that its children are ended, too."""

    def interrupt(number: int, frame: object) -> None:
        del frame
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, interrupt)
