"""A running child process in its own session. Its output is read line by line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from laneway.platform.clock import now
from laneway.platform.settings import project
from laneway.server.processes import program

LONGEST_LINE = 16_384
"""Bytes. A longer line is shown in pieces."""


class ChildProcess:
    """A child process, made by `start`. `signal` reaches the process alone, `kill` its whole group."""

    def __init__(self, process: asyncio.subprocess.Process, lines: asyncio.Task[None]) -> None:
        self.started_at = now()
        self._process, self._lines = process, lines

    @classmethod
    async def start(
        cls, argv: tuple[str, ...], *, show: Callable[[str], None], environment: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Run a command in its own session, which Ctrl-C does not reach. The command dies when this process dies.

        `environment`: variables that it gets in addition to those of this process.
        """
        started_at = now()
        reader, write_end = await _open_pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-IS",
                str(Path(__file__).with_name("child.py")),
                str(os.getpid()),
                program(argv[0]),
                *argv[1:],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                cwd=project.path,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment or {}),
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        child = cls(process, asyncio.create_task(_show_lines(reader, show)))
        child.started_at = started_at
        return child

    async def wait(self) -> int:
        """Wait until the process ends. Return its exit code, or minus the number of the signal that killed it."""
        return await self._process.wait()

    async def ends_within(self, seconds: float, *, unless: asyncio.Event | None = None) -> bool:
        """Wait until the process ends; True if it ended in time. Setting `unless` ends the wait early."""
        tasks = [asyncio.create_task(self.wait())]
        if unless is not None:
            tasks.append(asyncio.create_task(unless.wait()))
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        return self._process.returncode is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it still runs."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill all processes of its group that are left, and show the last lines."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await asyncio.wait({self._lines}, timeout=1)
        self._lines.cancel()


class Tail:
    """Passes lines on and remembers the last ones."""

    def __init__(self, show: Callable[[str], None], *, keep: int = 15) -> None:
        self._show = show
        self.lines: deque[str] = deque(maxlen=keep)

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._show(line)


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


async def _open_pipe() -> tuple[asyncio.StreamReader, int]:
    """Open a pipe. With asyncio's own pipe, `wait` would also wait for each grandchild that holds the other end."""
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
    )
    return reader, write_end


async def _show_lines(reader: asyncio.StreamReader, show: Callable[[str], None]) -> None:
    rest = b""
    while chunk := await reader.read(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(None, map(_text, lines)):  # empty lines would only fill the screen
            show(line)
        if len(rest) > LONGEST_LINE:
            show(_text(rest))
            rest = b""
    if rest:
        show(_text(rest))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip()
