"""`laneway up --reload`: which files count, and what a restart does to a process."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from watchfiles import Change

from laneway.server.processes import ManagedProcess, StopPlan
from laneway.server.reload import CodeFilter
from laneway.server.supervisor import Backoff, Supervisor
from laneway.server.terminal import Terminal

FOLDER = Path("/srv/shop")


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("shop/tasks.py", True),
        ("src/shop/deep/tasks.py", True),
        ("pyproject.toml", True),
        ("laneway.toml", True),
        ("workflows/welcome.yaml", True),
        ("other/notes.yaml", False),
        ("README.md", False),
        (".env", False),
        ("tests/test_tasks.py", False),
        ("data/files/upload.py", False),
        (".venv/lib/python3.11/site-packages/x.py", False),
        ("venv/lib/x.py", False),
        ("shop/__pycache__/tasks.cpython-311.pyc", False),
        ("shop/.tasks.py.swp", False),
    ],
)
def test_the_files_that_processes_read_at_their_start_count(file: str, counts: bool) -> None:
    passes = CodeFilter(FOLDER, data=FOLDER / "data", workflows=FOLDER / "workflows")

    assert passes(Change.modified, str(FOLDER / file)) is counts


WORK = """
import signal, sys, time
def finish(*_): print(sys.argv[1], "finishes", flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, finish)
print(sys.argv[1], "runs", flush=True)
time.sleep(60)
"""


class Lines(Terminal):
    """A terminal that keeps the lines, and tells when there is a new one."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def say(self, text: str) -> None:
        self.lines.append(text)
        self._more.set()

    def show_output(self, name: str, text: str) -> None:
        del name
        self.say(text)

    async def until(self, text: str) -> None:
        """Wait for a line."""
        async with asyncio.timeout(60):
            while text not in self.lines:
                await self._more.wait()
                self._more.clear()


def process(word: str) -> ManagedProcess:
    async def ready(_since: object) -> bool:
        return True

    return ManagedProcess("worker", (sys.executable, "-c", WORK, word), ready, StopPlan(1), runs_code=True)


def test_a_restart_stops_gracefully_and_starts_by_the_new_description() -> None:
    deaths: list[str] = []

    async def scenario() -> list[str]:
        lines = Lines()
        supervisor = Supervisor(replace(process("old"), on_death=deaths.append), lines, hurry=asyncio.Event())
        await lines.until("old runs")
        assert supervisor.restart(process("new"))
        await lines.until("new runs")
        await supervisor.stop()
        assert not supervisor.restart(process("late")), "it is not kept alive any more"
        return [line for line in lines.lines if line.endswith(("runs", "finishes"))]

    assert asyncio.run(scenario()) == ["old runs", "old finishes", "new runs", "new finishes"]
    assert deaths == []


def test_a_change_ends_the_wait_after_a_crash() -> None:
    async def scenario() -> None:
        lines = Lines()
        crashing = replace(process("old"), argv=(sys.executable, "-c", "raise SystemExit(3)"))
        backoff = Backoff(first=3600, longest=3600)
        supervisor = Supervisor(crashing, lines, hurry=asyncio.Event(), backoff=backoff)
        await lines.until("worker ended with exit code 3; it starts again in 3600 s")
        supervisor.restart(process("new"))
        await lines.until("new runs")
        await supervisor.stop()

    asyncio.run(scenario())
