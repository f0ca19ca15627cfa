"""The runner in its own process, with stand-in processes; tests/acceptance runs the real ones."""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

from app.core.settings import ROOT
from tests.fixtures.forked import ForkedProcess
from tests.laneway.server.test_child_process import has_ended

TIMEOUT = 30


class Up:
    """A runner with stand-in processes."""

    def __init__(self, folder: Path, *words: str, stdout: int) -> None:
        self.folder = folder
        argv = ["python", "-m", "tests.laneway.server.standin", str(folder), *words]
        with os.fdopen(stdout, "wb", closefd=False) as output:
            self.process = ForkedProcess(argv, folder=ROOT, environment=os.environ, output=output, platform=True)

    def events(self) -> list[tuple[str, ...]]:
        path = self.folder / "events"
        return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []

    def processes_that(self, what: str) -> list[str]:
        return [event[0] for event in self.events() if event[1:2] == (what,)]

    def pids(self) -> list[int]:
        return [int(event[2]) for event in self.events() if event[1:2] == ("started",)]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f"not in time; so far: {self.events()}, {self.output()}"
            assert self.process.poll() is None or condition(), f"ended early: {self.output()}"
            time.sleep(0.02)

    def output(self) -> str:
        return (self.folder / "out").read_text()

    def wait_for_output(self, text: str) -> None:
        self.wait_until(lambda: text in self.output())

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


StartUp = Callable[..., Up]


@pytest.fixture
def up(tmp_path: Path) -> Generator[StartUp]:
    started: list[Up] = []

    def start(*words: str) -> Up:
        with (tmp_path / "out").open("wb") as out:
            started.append(Up(tmp_path, *words, stdout=out.fileno()))
        return started[-1]

    yield start
    for runner in started:
        runner.process.kill()
        runner.process.wait()


def test_the_broker_starts_first_and_the_others_start_after_the_migration(up: StartUp) -> None:
    run = up()

    run.wait_for_output("all processes are ready")

    assert run.events()[0][:2] == ("broker", "started")
    assert run.events()[1] == ("prepared",)
    assert sorted(run.processes_that("started")) == ["api", "beat", "broker", "worker"]
    assert "laneway | api is ready: at://api" in run.output()
    assert "worker  | hello from worker" in run.output()
    assert "\x1b" not in run.output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_processes_in_order_with_exit_code_0(up: StartUp, number: signal.Signals) -> None:
    run = up()
    run.wait_for_output("all processes are ready")

    run.send(number)

    assert run.process.wait(TIMEOUT) == 0
    assert run.processes_that("stopped") == ["api", "beat", "worker", "broker"]
    assert not any(psutil.pid_exists(pid) for pid in run.pids())
    assert "Traceback" not in run.output()


def test_a_signal_during_the_start_stops_the_processes_that_run(up: StartUp) -> None:
    run = up()
    run.wait_until(lambda: run.processes_that("started") == ["broker"] or len(run.pids()) > 0)

    run.send(signal.SIGINT)

    assert run.process.wait(TIMEOUT) == 0
    assert sorted(run.processes_that("stopped")) == sorted(run.processes_that("started"))
    assert all(has_ended(pid) for pid in run.pids())


def test_a_second_signal_stops_the_worker_at_once_and_the_broker_last(up: StartUp) -> None:
    run = up("deaf")
    run.wait_for_output("all processes are ready")

    run.send(signal.SIGINT)
    run.wait_for_output("stopping worker: it finishes its running tasks, for up to 60 s")
    assert run.process.poll() is None
    run.send(signal.SIGINT)

    assert run.process.wait(TIMEOUT) == 0
    assert run.processes_that("stopped") == ["api", "beat", "broker"]
    assert "stopping at once" in run.output()
    assert not any(psutil.pid_exists(pid) for pid in run.pids())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child when its parent dies")
def test_killing_the_runner_leaves_no_process_behind(up: StartUp) -> None:
    run = up("deaf")
    run.wait_for_output("all processes are ready")

    run.send(signal.SIGKILL)
    run.process.wait(TIMEOUT)

    assert len(run.pids()) == 4
    assert all(has_ended(pid) for pid in run.pids())


def test_a_killed_process_is_restarted_and_the_others_stay(up: StartUp) -> None:
    run = up()
    run.wait_for_output("all processes are ready")
    before = run.pids()
    worker = next(int(event[2]) for event in run.events() if event[:2] == ("worker", "started"))

    os.kill(worker, signal.SIGKILL)
    run.wait_until(lambda: len(run.pids()) == 5)

    assert "worker was killed by SIGKILL; it starts again in 1 s" in run.output()
    assert all(psutil.pid_exists(pid) for pid in before if pid != worker)
    run.send(signal.SIGTERM)
    assert run.process.wait(TIMEOUT) == 0


def test_processes_still_stop_in_order_after_the_reader_of_the_output_is_gone(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    run = Up(tmp_path, stdout=write_end)
    os.close(write_end)
    (tmp_path / "out").touch()
    run.wait_until(lambda: len(run.pids()) >= 1)
    os.close(read_end)
    run.wait_until(lambda: len(run.pids()) == 4)

    run.send(signal.SIGTERM)

    assert run.process.wait(TIMEOUT) == 0
    assert run.processes_that("stopped") == ["api", "beat", "worker", "broker"]


def test_process_names_are_coloured_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    run = Up(tmp_path, stdout=theirs)
    os.close(theirs)
    (tmp_path / "out").touch()
    seen = b""
    while b"all processes are ready" not in seen:
        seen += os.read(ours, 65536)
    run.send(signal.SIGTERM)

    assert run.process.wait(TIMEOUT) == 0
    os.close(ours)
    assert b"\x1b[36mbroker  | \x1b[0mhello from broker" in seen
