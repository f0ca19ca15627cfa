"""One command from the worker's side: it is started under its guard, its output is taken, its end awaited."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import IO, Any, Final

from app.services.pipeline.folders import WorkingFolder
from app.services.pipeline.output import Output
from laneway.platform.errors import RetryableError

GUARD: Final = Path(__file__).with_name("guard.py")
TICK: Final = 0.25
"""Seconds between two signs of life to the guard, and two looks whether the task is to stop."""
SILENCE: Final = 60.0
"""Seconds without such a sign after which the guard takes the worker for dead: another has the task by then."""
LAST_SECONDS: Final = 10.0
"""How long the guard itself may take on top of the command's time of grace."""
CHUNK: Final = 65_536
ORPHANS_CHUNKS: Final = 64
"""How much is still read when the guard is gone."""


class End(StrEnum):
    """How a command came to its end; the words are the guard's."""

    EXITED = "exited"
    TIMEOUT = "timeout"
    TOLD = "told"
    SILENCE = "silence"
    NOT_STARTED = "not started"


class GuardLost(RetryableError):
    """The command's guard was killed, and the command with it."""

    title = "Command lost"

    template = "The process that watched over the command died, and took the command with it."


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a command may use: seconds, seconds from SIGTERM to SIGKILL, bytes of output that are kept."""

    seconds: float
    grace: float
    output: int


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a command. `code`: its exit code; `signal`: what killed it."""

    how: End
    code: int | None
    signal: int | None
    detail: str
    seconds: float
    output: Output


def run(
    argv: Sequence[str],
    folder: WorkingFolder,
    *,
    environment: Mapping[str, str],
    bounds: Bounds,
    tell: Callable[[str], None],
    look: Callable[[], None],
) -> Ran:
    """Run a command to its end. `tell` gets each line that it writes.

    What `look` raises ends the command, and is raised. Nothing of the command runs when this returns or raises.
    Raises GuardLost.
    """
    began, output = monotonic(), Output(bounds.output, tell=tell)
    reading, writing = os.pipe()
    try:
        with _guarded(argv, folder, environment=environment, bounds=bounds, status=writing) as guard:
            os.close(writing)
            writing = -1
            try:
                _follow(guard, output, look=look)
            finally:
                _let_go(guard, bounds.grace)
        output.end()
        report = _report(reading)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    return Ran(End(report["how"]), report["code"], report["signal"], str(report["detail"]), monotonic() - began, output)


def _guarded(
    argv: Sequence[str], folder: WorkingFolder, *, environment: Mapping[str, str], bounds: Bounds, status: int
) -> subprocess.Popen[bytes]:
    spec = {
        "argv": list(argv),
        "timeout": bounds.seconds,
        "grace": bounds.grace,
        "silence": SILENCE,
        "folder_fd": folder.descriptor,
        "status_fd": status,
    }
    return subprocess.Popen(  # noqa: S603  no shell; what is run is in the configuration
        [sys.executable, "-I", "-S", str(GUARD), json.dumps(spec)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd="/",
        start_new_session=True,
        bufsize=0,
        pass_fds=(folder.descriptor, folder.lock, status),
    )


def _follow(guard: subprocess.Popen[bytes], output: Output, *, look: Callable[[], None]) -> None:
    """Take what is written until there is no more, and show that this worker lives."""
    pipe, control = _pipes(guard)
    os.set_blocking(control.fileno(), False)
    left = ORPHANS_CHUNKS
    while left:
        ready = select.select([pipe], [], [], TICK)[0]
        data = os.read(pipe.fileno(), CHUNK) if ready else b""
        output.take(data)
        if guard.poll() is not None:  # if it was killed, others may hold the pipe for ever
            left = left - 1 if data else 0
        elif ready and not data:
            return
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(control.fileno(), b".")
        look()


def _let_go(guard: subprocess.Popen[bytes], grace: float) -> None:
    """Tell the guard to end what still runs, and wait for it."""
    pipe, control = _pipes(guard)
    control.close()
    until = monotonic() + grace + LAST_SECONDS
    while guard.poll() is None and monotonic() < until:
        if select.select([pipe], [], [], TICK)[0] and not os.read(pipe.fileno(), CHUNK):
            with suppress(subprocess.TimeoutExpired):
                guard.wait(max(0.0, until - monotonic()))
    if guard.poll() is None:
        guard.kill()


def _pipes(guard: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert guard.stdout is not None and guard.stdin is not None  # noqa: S101  how it was started
    return guard.stdout, guard.stdin


def _report(reading: int) -> dict[str, Any]:
    with os.fdopen(os.dup(reading), "rb") as status:
        said = [json.loads(line) for line in status.read().splitlines()]
    if said and "how" in said[-1]:
        return said[-1]
    if said:
        with suppress(ProcessLookupError):
            os.killpg(said[0]["group"], signal.SIGKILL)
    raise GuardLost
