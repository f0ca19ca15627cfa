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
from laneway.server.processes import ManagedProcess, StopPlan
from laneway.server.supervisor import Backoff, Supervisor
from laneway.server.terminal import Terminal

TIMEOUT = 20


def process(
    code: str, *, ready: bool = True, stopping: StopPlan | None = None, ready_seconds: float = 30
) -> ManagedProcess:
    async def probe(_since: datetime) -> bool:
        return ready

    argv = (sys.executable, "-S", "-c", code)
    return ManagedProcess("standin", argv, probe, stopping or StopPlan(1), "http://here", ready_seconds)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - the condition changes in another process
            await asyncio.sleep(0.01)


def test_delays_double_up_to_half_a_minute() -> None:
    backoff = Backoff()

    assert [backoff.after(0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_the_delay_starts_again_after_a_minute_alive() -> None:
    backoff = Backoff()
    for _ in range(4):
        backoff.after(5)

    assert [backoff.after(60), backoff.after(59)] == [1, 2]


@given(st.lists(st.floats(0, 200)))
def test_a_delay_is_always_between_1_and_30_seconds(lives: list[float]) -> None:
    backoff = Backoff()

    assert all(1 <= backoff.after(alive) <= 30 for alive in lives)


def test_a_process_that_dies_is_restarted_with_a_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    starts = str(tmp_path / "starts")
    code = f"import os, signal; open({starts!r}, 'a').write(str(os.getpid()) + chr(10)); signal.pause()"

    def pids() -> list[int]:
        path = tmp_path / "starts"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def run() -> None:
        supervisor = Supervisor(process(code), Terminal(), hurry=asyncio.Event(), backoff=Backoff(first=0.05))
        await supervisor.first_ready
        for count in (1, 2):
            await wait_until(lambda count=count: len(pids()) == count)
            os.kill(pids()[-1], signal.SIGKILL)
        await wait_until(lambda: len(pids()) == 3)
        await supervisor.stop()

    asyncio.run(run())

    output = capfd.readouterr().out
    assert "standin was killed by SIGKILL; it starts again in 0.05 s" in output
    assert "standin was killed by SIGKILL; it starts again in 0.1 s" in output
    assert output.count("standin is ready: http://here") >= 2
    assert not any(psutil.pid_exists(pid) for pid in pids())


def test_a_process_that_keeps_dying_before_it_is_ready_is_given_up_with_its_last_lines() -> None:
    async def run() -> None:
        supervisor = Supervisor(
            process("print('no such table'); raise SystemExit(7)", ready=False),
            Terminal(),
            hurry=asyncio.Event(),
            backoff=Backoff(first=0.01),
        )
        try:
            await supervisor.first_ready
        finally:
            await supervisor.stop()

    with pytest.raises(NeverReady, match="ended with exit code 7, 3 times, before it was ready") as error:
        asyncio.run(run())

    assert "no such table" in str(error.value)


def test_a_process_that_is_never_ready_is_given_up_and_ended() -> None:
    async def run() -> None:
        supervisor = Supervisor(
            process("print('hm', flush=True); import signal; signal.pause()", ready=False, ready_seconds=0.5),
            Terminal(),
            hurry=asyncio.Event(),
        )
        try:
            await supervisor.first_ready
        finally:
            await supervisor.stop()

    with pytest.raises(NeverReady, match=r"was not ready after 0\.5 s(.|\n)*hm"):
        asyncio.run(run())


def test_a_process_that_waits_for_its_restart_is_stopped_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> float:
        supervisor = Supervisor(
            process("raise SystemExit(1)", ready=False), Terminal(), hurry=asyncio.Event(), backoff=Backoff(first=25)
        )
        output = ""

        def waits() -> bool:
            nonlocal output
            output += capfd.readouterr().out
            return "starts again" in output

        await wait_until(waits)
        begun = time.monotonic()
        await supervisor.stop()
        return time.monotonic() - begun

    assert asyncio.run(run()) < 5


DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, lambda *_: (print("SIGQUIT received", flush=True), {then}))
print("deaf", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(("then", "killed"), [("sys.exit(0)", False), ("None", True)])
def test_a_process_that_ignores_sigterm_gets_sigquit_and_is_then_killed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], then: str, killed: bool
) -> None:
    monkeypatch.setattr("laneway.server.supervisor.LAST_SECONDS", 0.5)
    stopping = StopPlan(1, seconds=0.2, hurried_seconds=0, before_kill=signal.SIGQUIT)

    async def run() -> None:
        supervisor = Supervisor(process(DEAF.format(then=then), stopping=stopping), Terminal(), hurry=asyncio.Event())
        output = ""

        def deaf() -> bool:
            nonlocal output
            output += capfd.readouterr().out
            return "deaf" in output

        await wait_until(deaf)
        await supervisor.stop()

    asyncio.run(run())

    output = capfd.readouterr().out
    assert "SIGQUIT received" in output
    assert ("did not end in time and is killed" in output) == killed
    assert "standin stopped" in output


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


def test_a_second_signal_ends_the_wait_for_a_process_but_not_for_the_broker(capfd: pytest.CaptureFixture[str]) -> None:
    """The broker keeps its whole time even then: it must write its data."""

    async def run(stopping: StopPlan) -> float:
        hurry = asyncio.Event()
        supervisor = Supervisor(process(SLOW, stopping=stopping), Terminal(), hurry=hurry)
        output = ""

        def up() -> bool:
            nonlocal output
            output += capfd.readouterr().out
            return "up" in output

        await wait_until(up)
        hurry.set()
        begun = time.monotonic()
        await supervisor.stop()
        return time.monotonic() - begun

    assert asyncio.run(run(StopPlan(1, seconds=30, hurried_seconds=0))) < 0.6
    assert "is killed" in capfd.readouterr().out
    assert asyncio.run(run(StopPlan(5, seconds=30, hurried_seconds=30))) >= 0.6
    assert "is killed" not in capfd.readouterr().out
