"""The runner, in a process of its own, over stand-in parts; the real parts are run in tests/acceptance."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

from tests.laneway.server.test_child_process import gone

PATIENCE = 30


class Up:
    """A runner over stand-in parts."""

    def __init__(self, folder: Path, *words: str, stdout: int) -> None:
        self.folder = folder
        argv = [sys.executable, "-m", "tests.laneway.server.standin", str(folder), *words]
        self.process = subprocess.Popen(argv, stdout=stdout, stderr=subprocess.STDOUT, start_new_session=True)

    def events(self) -> list[tuple[str, ...]]:
        path = self.folder / "events"
        return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []

    def happened(self, what: str) -> list[str]:
        return [event[0] for event in self.events() if event[1:2] == (what,)]

    def pids(self) -> list[int]:
        return [int(event[2]) for event in self.events() if event[1:2] == ("started",)]

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, f"not in time; so far: {self.events()}, {self.said()}"
            assert self.process.poll() is None or true(), f"ended early: {self.said()}"
            time.sleep(0.02)

    def said(self) -> str:
        return (self.folder / "out").read_text()

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.said())

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
    for one in started:
        one.process.kill()
        one.process.wait()


def test_the_broker_is_first_up_and_the_rest_waits_for_the_tables(up: StartUp) -> None:
    run = up()

    run.until_said("everything runs")

    assert run.events()[0][:2] == ("broker", "started")
    assert run.events()[1] == ("prepared",)
    assert sorted(run.happened("started")) == ["api", "beat", "broker", "worker"]
    assert "laneway | api is ready: at://api" in run.said()
    assert "worker  | hello from worker" in run.said()
    assert "\x1b" not in run.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_in_order_and_that_is_a_success(up: StartUp, number: signal.Signals) -> None:
    run = up()
    run.until_said("everything runs")

    run.send(number)

    assert run.process.wait(PATIENCE) == 0
    assert run.happened("stopped") == ["api", "beat", "worker", "broker"]
    assert not any(psutil.pid_exists(pid) for pid in run.pids())
    assert "Traceback" not in run.said()


def test_a_signal_while_it_starts_stops_what_there_is(up: StartUp) -> None:
    run = up()
    run.until(lambda: run.happened("started") == ["broker"] or len(run.pids()) > 0)

    run.send(signal.SIGINT)

    assert run.process.wait(PATIENCE) == 0
    assert sorted(run.happened("stopped")) == sorted(run.happened("started"))
    assert all(gone(pid) for pid in run.pids())


def test_a_second_signal_does_not_wait_for_the_worker_but_still_stops_the_broker_last(up: StartUp) -> None:
    run = up("deaf")
    run.until_said("everything runs")

    run.send(signal.SIGINT)
    run.until_said("stopping worker: it finishes its running tasks, for up to 60 s")
    assert run.process.poll() is None
    run.send(signal.SIGINT)

    assert run.process.wait(PATIENCE) == 0
    assert run.happened("stopped") == ["api", "beat", "broker"]
    assert "stopping at once" in run.said()
    assert not any(psutil.pid_exists(pid) for pid in run.pids())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_killing_the_runner_with_9_leaves_nothing_behind(up: StartUp) -> None:
    run = up("deaf")
    run.until_said("everything runs")

    run.send(signal.SIGKILL)
    run.process.wait(PATIENCE)

    assert len(run.pids()) == 4
    assert all(gone(pid) for pid in run.pids())


def test_a_part_that_is_killed_comes_back_and_the_others_stay(up: StartUp) -> None:
    run = up()
    run.until_said("everything runs")
    before = run.pids()
    worker = next(int(event[2]) for event in run.events() if event[:2] == ("worker", "started"))

    os.kill(worker, signal.SIGKILL)
    run.until(lambda: len(run.pids()) == 5)

    assert "worker was killed by SIGKILL; it starts again in 1 s" in run.said()
    assert all(psutil.pid_exists(pid) for pid in before if pid != worker)
    run.send(signal.SIGTERM)
    assert run.process.wait(PATIENCE) == 0


def test_a_reader_that_goes_away_does_not_stop_the_platform_in_disorder(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    run = Up(tmp_path, stdout=write_end)
    os.close(write_end)
    (tmp_path / "out").touch()
    run.until(lambda: len(run.pids()) >= 1)
    os.close(read_end)
    run.until(lambda: len(run.pids()) == 4)

    run.send(signal.SIGTERM)

    assert run.process.wait(PATIENCE) == 0
    assert run.happened("stopped") == ["api", "beat", "worker", "broker"]


def test_names_are_coloured_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    run = Up(tmp_path, stdout=theirs)
    os.close(theirs)
    (tmp_path / "out").touch()
    seen = b""
    while b"everything runs" not in seen:
        seen += os.read(ours, 65536)
    run.send(signal.SIGTERM)

    assert run.process.wait(PATIENCE) == 0
    os.close(ours)
    assert b"\x1b[36mbroker  | \x1b[0mhello from broker" in seen
