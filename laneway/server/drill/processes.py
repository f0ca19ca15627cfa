"""The processes of a drill. Each is in a session of its own, and dies when the drill dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from laneway.platform.errors import PlatformError
from laneway.platform.settings import project
from laneway.server.drill.app import Plan
from laneway.server.processes import program
from laneway.server.valkey import server_argv, server_pid

START_SECONDS: Final = 60.0
END_SECONDS: Final = 60.0
CONCURRENCY: Final = 2
CHILD: Final = Path(__file__).parents[1] / "child.py"
POLL: Final = 0.05


class DrillFailed(PlatformError):
    """The drill cannot be done, or not to its end. It says nothing about the platform."""

    template = "The drill could not be done: {reason}"
    reason: str


def wait_until(check: Callable[[], object], *, seconds: float, what: str) -> None:
    """Wait until it is true. Raises DrillFailed."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise DrillFailed(f"{what} did not happen within {seconds:g} s.")
        time.sleep(POLL)


class DrillProcess:
    """One process, which the drill has started: no other process is ever signalled."""

    def __init__(self, argv: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-IS", str(CHILD), str(os.getpid()), program(argv[0]), *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=project.path,
                env=os.environ | dict(environment or {}),
                start_new_session=True,
            )
        self.log = log

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def terminate(self) -> None:
        """Ask the process to stop: a worker stops warmly."""
        if not self.is_over:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and all its children at once, and wait for its end."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_lines(self, number: int = 5) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-number:])


class DrillWorker:
    """A worker of the drill."""

    def __init__(self, plan: Plan, name: str, folder: Path) -> None:
        self.name = name
        own = replace(plan, worker=name)
        words = (
            "celery",
            "-q",
            "-A",
            "laneway.server.drill.worker_app:app",
            "worker",
            "-P",
            "prefork",
            "-l",
            "WARNING",
        )
        options = ("-Q", plan.queue, "-n", f"{name}@%h", "-c", str(CONCURRENCY))
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        log = folder / f"{name}.log"
        self.process = DrillProcess((*words, *options, *quiet), log=log, environment=own.as_environment())

    def kill(self) -> None:
        """Kill it with its pool processes."""
        self.process.kill()

    def stop(self) -> float:
        """Stop it warmly; returns how many seconds that took. Raises DrillFailed."""
        began = time.monotonic()
        self.process.terminate()
        wait_until(lambda: self.process.is_over, seconds=END_SECONDS, what=f"the end of the worker {self.name}")
        return time.monotonic() - began


class DrillBroker:
    """A Valkey of the drill, with its data in a folder that is deleted afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "valkey"
        self._folder.mkdir(mode=0o700)
        self.port = free_port()
        self._process: DrillProcess | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers. Raises DrillFailed, NoValkeyBinary."""
        argv = server_argv(self._folder, port=self.port)
        process = self._process = DrillProcess(argv, log=self._folder / "log")
        wait_until(
            lambda: process.is_over or server_pid("127.0.0.1", self.port) is not None,
            seconds=START_SECONDS,
            what="the start of the drill's broker",
        )
        if process.is_over:
            raise DrillFailed(f"its broker ended: {process.last_lines()}")

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()


def free_port() -> int:
    """A port on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
