from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.server.errors import NeverReady
from laneway.server.processes import Part, Stopping
from laneway.server.supervisor import Backoff, Supervisor
from laneway.server.terminal import Terminal

PATIENCE = 20


def part(code: str, *, ready: bool = True, stopping: Stopping | None = None, ready_seconds: float = 30) -> Part:
    async def probe(_since: datetime) -> bool:
        return ready

    argv = (sys.executable, "-S", "-c", code)
    return Part("standin", argv, probe, stopping or Stopping(1), "http://here", ready_seconds)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


def test_delays_double_up_to_half_a_minute() -> None:
    backoff = Backoff()

    assert [backoff.after(0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_minute_alive_is_forgiven() -> None:
    backoff = Backoff()
    for _ in range(4):
        backoff.after(5)

    assert [backoff.after(60), backoff.after(59)] == [1, 2]


@given(st.lists(st.floats(0, 200)))
def test_a_delay_is_never_outside_its_bounds(lives: list[float]) -> None:
    backoff = Backoff()

    assert all(1 <= backoff.after(alive) <= 30 for alive in lives)


def test_a_part_that_dies_is_started_again_and_said_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    starts = str(tmp_path / "starts")
    code = f"import os, signal; open({starts!r}, 'a').write(str(os.getpid()) + chr(10)); signal.pause()"

    def pids() -> list[int]:
        path = tmp_path / "starts"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def run() -> None:
        one = Supervisor(part(code), Terminal(), hurry=asyncio.Event(), backoff=Backoff(first=0.05))
        await one.first_ready
        for count in (1, 2):
            await until(lambda count=count: len(pids()) == count)
            os.kill(pids()[-1], signal.SIGKILL)
        await until(lambda: len(pids()) == 3)
        await one.stop()

    asyncio.run(run())

    said = capfd.readouterr().out
    assert "standin was killed by SIGKILL; it starts again in 0.05 s" in said
    assert "standin was killed by SIGKILL; it starts again in 0.1 s" in said
    assert said.count("standin is ready: http://here") >= 2
    assert not any(psutil.pid_exists(pid) for pid in pids())


def test_a_part_that_dies_again_and_again_before_it_is_ready_is_given_up_with_its_last_lines() -> None:
    async def run() -> None:
        one = Supervisor(
            part("print('no such table'); raise SystemExit(7)", ready=False),
            Terminal(),
            hurry=asyncio.Event(),
            backoff=Backoff(first=0.01),
        )
        try:
            await one.first_ready
        finally:
            await one.stop()

    with pytest.raises(NeverReady, match="ended with exit code 7, 3 times, before it was ready") as error:
        asyncio.run(run())

    assert "no such table" in str(error.value)


def test_a_part_that_is_never_ready_is_given_up_in_time_and_ended() -> None:
    async def run() -> None:
        one = Supervisor(
            part("print('hm', flush=True); import signal; signal.pause()", ready=False, ready_seconds=0.5),
            Terminal(),
            hurry=asyncio.Event(),
        )
        try:
            await one.first_ready
        finally:
            await one.stop()

    with pytest.raises(NeverReady, match=r"was not ready after 0\.5 s(.|\n)*hm"):
        asyncio.run(run())


def test_a_part_waiting_for_its_restart_can_be_stopped_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> float:
        one = Supervisor(
            part("raise SystemExit(1)", ready=False), Terminal(), hurry=asyncio.Event(), backoff=Backoff(first=25)
        )
        said = ""

        def waits() -> bool:
            nonlocal said
            said += capfd.readouterr().out
            return "starts again" in said

        await until(waits)
        begun = time.monotonic()
        await one.stop()
        return time.monotonic() - begun

    assert asyncio.run(run()) < 5


DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, lambda *_: (print("quit heard", flush=True), {then}))
print("deaf", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(("then", "killed"), [("sys.exit(0)", False), ("None", True)])
def test_a_part_that_does_not_end_is_asked_once_more_and_then_killed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], then: str, killed: bool
) -> None:
    monkeypatch.setattr("laneway.server.supervisor.LAST_SECONDS", 0.5)
    stopping = Stopping(1, seconds=0.2, hurried_seconds=0, before_kill=signal.SIGQUIT)

    async def run() -> None:
        one = Supervisor(part(DEAF.format(then=then), stopping=stopping), Terminal(), hurry=asyncio.Event())
        said = ""

        def deaf() -> bool:
            nonlocal said
            said += capfd.readouterr().out
            return "deaf" in said

        await until(deaf)
        await one.stop()

    asyncio.run(run())

    said = capfd.readouterr().out
    assert "quit heard" in said
    assert ("did not end in time and is killed" in said) == killed
    assert "standin stopped" in said


SLOW = """
import signal, time
def slowly(*_):
    time.sleep(0.7)
    raise SystemExit
signal.signal(signal.SIGTERM, slowly)
print("up", flush=True)
while True:
    signal.pause()
"""


def test_a_hurry_ends_the_wait_for_a_part_but_not_for_the_broker(capfd: pytest.CaptureFixture[str]) -> None:
    """The broker's hurried time is its whole time: it must write its data."""

    async def run(stopping: Stopping) -> float:
        hurry = asyncio.Event()
        one = Supervisor(part(SLOW, stopping=stopping), Terminal(), hurry=hurry)
        said = ""

        def up() -> bool:
            nonlocal said
            said += capfd.readouterr().out
            return "up" in said

        await until(up)
        hurry.set()
        begun = time.monotonic()
        await one.stop()
        return time.monotonic() - begun

    assert asyncio.run(run(Stopping(1, seconds=30, hurried_seconds=0))) < 0.6
    assert "is killed" in capfd.readouterr().out
    assert asyncio.run(run(Stopping(5, seconds=30, hurried_seconds=30))) >= 0.6
    assert "is killed" not in capfd.readouterr().out
