from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from laneway.server import child
from laneway.server.child_process import LONGEST_LINE, ChildProcess, Tail, describe_exit

PAUSE = "import signal; print('up', flush=True); signal.pause()"


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


async def exit_code(code: str, *, show: Callable[[str], None]) -> int:
    process = await ChildProcess.start(python(code), show=show)
    result = await process.wait()
    await process.kill()
    return result


def has_ended(pid: int, *, seconds: float = 10) -> bool:
    """Wait for a process to end; True if it did in time. A zombie counts as ended."""
    try:
        process = psutil.Process(pid)
        deadline = time.monotonic() + seconds
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
    except psutil.NoSuchProcess:
        pass
    return True


def test_stdout_and_stderr_are_shown_line_by_line_without_loss() -> None:
    lines: list[str] = []

    code = asyncio.run(
        exit_code(
            "import sys; print('one\\ntwo'); print('three', file=sys.stderr); print('four', end='')", show=lines.append
        )
    )

    assert code == 0
    assert sorted(lines) == ["four", "one", "three", "two"]


def test_a_very_long_line_is_shown_in_pieces() -> None:
    lines: list[str] = []

    asyncio.run(exit_code(f"print('x' * {10 * LONGEST_LINE})", show=lines.append))

    assert len(lines) > 1
    assert "".join(lines) == "x" * 10 * LONGEST_LINE


def test_bytes_that_are_not_utf8_are_shown_as_replacement_characters() -> None:
    lines: list[str] = []

    asyncio.run(exit_code("import sys; sys.stdout.buffer.write(b'\\xff ok\\n')", show=lines.append))

    assert lines == ["\N{REPLACEMENT CHARACTER} ok"]


def test_a_missing_program_is_reported_in_one_line() -> None:
    lines: list[str] = []

    async def run() -> int:
        process = await ChildProcess.start(("/no/such/program",), show=lines.append)
        code = await process.wait()
        await process.kill()
        return code

    assert asyncio.run(run()) == 1
    assert lines == ["/no/such/program cannot be started: No such file or directory"]


def test_a_child_has_its_own_session_so_that_ctrl_c_does_not_reach_it() -> None:
    async def run() -> tuple[int, int]:
        process = await ChildProcess.start(
            python("import os; print(os.getpgid(0), os.getsid(0), flush=True)"), show=seen.append
        )
        await process.wait()
        await process.kill()
        return os.getpgid(0), os.getsid(0)

    seen: list[str] = []
    ours = asyncio.run(run())

    group, session = map(int, seen[0].split())
    assert group not in ours
    assert session == group


def test_the_end_is_noticed_while_a_grandchild_holds_the_output_and_kill_ends_the_grandchild() -> None:
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-S', '-c', {PAUSE!r}]).pid, flush=True)"
    lines: list[str] = []

    async def run() -> bool:
        process = await ChildProcess.start(python(code), show=lines.append)
        ended = await process.ends_within(10)
        grandchild = int(lines[0])
        alive = psutil.pid_exists(grandchild)
        await process.kill()
        return ended and alive and has_ended(grandchild)

    assert asyncio.run(run())


def test_an_event_ends_the_wait_early() -> None:
    async def run() -> tuple[bool, float]:
        process = await ChildProcess.start(python(PAUSE), show=lambda _: None)
        hurry = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, hurry.set)
        begun = time.monotonic()
        ended = await process.ends_within(30, unless=hurry)
        await process.kill()
        return ended, time.monotonic() - begun

    ended, seconds = asyncio.run(run())
    assert not ended
    assert seconds < 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child when its parent dies")
def test_a_child_dies_when_its_parent_is_killed() -> None:
    inner = [sys.executable, "-IS", child.__file__]
    code = (
        "import os, signal, subprocess\n"
        f"argv = {inner!r} + [str(os.getpid()), {sys.executable!r}, '-S', '-c', {PAUSE!r}]\n"
        "child = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()"
    )
    parent = subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert child.__file__ not in psutil.Process(pid).cmdline()  # it executes the other program by now

    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    ended = has_ended(pid, seconds=5)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    assert ended


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child when its parent dies")
def test_a_child_whose_parent_is_already_dead_does_not_start(tmp_path: Path) -> None:
    another = str(os.getppid())
    argv = [sys.executable, "-IS", child.__file__, another, "/bin/touch", str(tmp_path / "started")]

    code = subprocess.run(argv, check=False).returncode

    assert code == 1
    assert not (tmp_path / "started").exists()


def test_the_tail_keeps_the_last_lines() -> None:
    shown: list[str] = []
    tail = Tail(shown.append, keep=2)

    for line in ("a", "b", "c"):
        tail(line)

    assert list(tail.lines) == ["b", "c"]
    assert shown == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("code", "words"), [(0, "ended with exit code 0"), (3, "ended with exit code 3"), (-9, "was killed by SIGKILL")]
)
def test_an_exit_code_is_described_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
