"""The worker's side of a command: start it under its guard, collect its output, wait for its end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import IO, Any, Final

import laneway
from app.services.pipeline.folders import WorkingFolder
from app.services.pipeline.output import Output
from laneway.confinement.confine import Confinement
from laneway.platform.children import log_outcome
from laneway.platform.errors import PermanentError, RetryableError

GUARD: Final = Path(__file__).with_name("guard.py")
LIBRARY: Final = Path(laneway.__file__).resolve().parents[1]
"""Where the guard finds `laneway.confinement`."""
TICK: Final = 0.25
"""Seconds between two signs of life to the guard, and between two checks whether the task must stop."""
WORKER_TIMEOUT: Final = 60.0
"""The guard ends the command after this many seconds without a sign of life; another worker has the task by then."""
GUARD_SECONDS: Final = 10.0
"""Seconds that the guard itself may take in addition to the command's grace period."""
CHUNK: Final = 65_536
MAX_ORPHAN_CHUNKS: Final = 64
"""The most chunks that are read after the guard has ended."""


class CommandRefused(PermanentError):
    """The command could not be confined, and therefore did not run."""

    title = "Command not confined"

    template = "The command was not started, because it could not be confined: {reason}."
    reason: str


class End(StrEnum):
    """How a command ended; the guard reports these values."""

    EXITED = "exited"
    TIMEOUT = "timeout"
    STOPPED = "stopped"
    SILENCE = "silence"
    NOT_STARTED = "not started"


class GuardLost(RetryableError):
    """The command's guard was killed, and the command died with it."""

    title = "Command lost"

    template = "The process that supervises the command was killed, and the command with it."


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a command: its seconds, seconds from SIGTERM to SIGKILL, and bytes of output to keep."""

    seconds: float
    grace: float
    output: int


@dataclass(frozen=True, slots=True)
class CommandRun:
    """An ended command: how it ended, its exit code or the signal that killed it, and its output."""

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
    confinement: Confinement,
    on_line: Callable[[str], None],
    on_tick: Callable[[], None],
) -> CommandRun:
    """Run a command to its end, and call `on_line` with each line that it writes.

    `on_tick` is called about every TICK seconds; an error that it raises ends the command. No process of the command
    runs any more when this function returns or raises. Raises GuardLost, CommandRefused, and the errors of `on_tick`.
    """
    started, output = monotonic(), Output(bounds.output, on_line=on_line)
    reading, writing = os.pipe()
    try:
        spec = _spec(argv, folder, bounds=bounds, confinement=confinement, status=writing)
        with _start_guard(spec, folder, environment=environment, status=writing) as guard:
            os.close(writing)
            writing = -1
            try:
                _collect_output(guard, output, on_tick=on_tick)
            finally:
                _stop_guard(guard, bounds.grace)
        output.close()
        report = _report(reading)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    seconds = monotonic() - started
    return CommandRun(End(report["how"]), report["code"], report["signal"], str(report["detail"]), seconds, output)


def _spec(
    argv: Sequence[str], folder: WorkingFolder, *, bounds: Bounds, confinement: Confinement, status: int
) -> dict[str, Any]:
    return {
        "library": str(LIBRARY),
        "confinement": {**asdict(confinement), "reach": [str(folder.path)]},
        "argv": list(argv),
        "timeout": bounds.seconds,
        "grace": bounds.grace,
        "worker_timeout": WORKER_TIMEOUT,
        "folder_fd": folder.descriptor,
        "status_fd": status,
    }


def _start_guard(
    spec: dict[str, Any], folder: WorkingFolder, *, environment: Mapping[str, str], status: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  no shell; the configuration names the program
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


def _collect_output(guard: subprocess.Popen[bytes], output: Output, *, on_tick: Callable[[], None]) -> None:
    """Collect the output until its end, and send the guard signs of life."""
    pipe, control = _pipes(guard)
    os.set_blocking(control.fileno(), False)
    chunks = MAX_ORPHAN_CHUNKS
    while chunks:
        ready = select.select([pipe], [], [], TICK)[0]
        data = os.read(pipe.fileno(), CHUNK) if ready else b""
        output.append(data)
        if guard.poll() is not None:  # If the guard was killed, other processes may hold the pipe for ever.
            chunks = chunks - 1 if data else 0
        elif ready and not data:
            return
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(control.fileno(), b".")
        on_tick()


def _stop_guard(guard: subprocess.Popen[bytes], grace: float) -> None:
    """Make the guard end all remaining processes, and wait for the guard."""
    pipe, control = _pipes(guard)
    control.close()
    until = monotonic() + grace + GUARD_SECONDS
    while guard.poll() is None and monotonic() < until:
        if select.select([pipe], [], [], TICK)[0] and not os.read(pipe.fileno(), CHUNK):
            with suppress(subprocess.TimeoutExpired):
                guard.wait(max(0.0, until - monotonic()))
    if guard.poll() is None:
        guard.kill()


def _pipes(guard: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert guard.stdout is not None and guard.stdin is not None  # noqa: S101  It was started with pipes.
    return guard.stdout, guard.stdin


def _report(reading: int) -> dict[str, Any]:
    with os.fdopen(os.dup(reading), "rb") as status:
        lines = [json.loads(line) for line in status.read().splitlines()]
    for line in lines:
        if "refused" in line:
            raise CommandRefused(line["refused"])
        if "missing" in line:
            log_outcome("a command of the pipeline", line["missing"], line["open"])
    if lines and "how" in lines[-1]:
        return lines[-1]
    for group in (line["group"] for line in lines if "group" in line):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    raise GuardLost
