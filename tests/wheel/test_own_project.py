"""From the wheel to a task of one's own: a fresh environment, a new project, one start, and a change while it runs.

It does what README.md and docs/first-task.md say.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from app.core.settings import ROOT
from tests.docs.blocks import blocks_of
from tests.fixtures import fork_server
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until
from tests.wheel.test_wheel import BIN, install, wheel

__all__ = ["wheel"]

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("own-project")]

LOADED = (*fork_server.LIBRARIES, *fork_server.OURS, "flower.command")
"""What the processes of a platform import."""
SECONDS = 240
"""For the start, or a restart, on a busy machine."""
PAGE = ROOT / "docs" / "first-task.md"
OWN_TASK, OWN_TEST = (block.text for block in blocks_of(PAGE) if block.language == "python")
"""The task and its test that docs/first-task.md adds to the project."""


class Shop:
    """A project that `laneway new` has written, and the environment that it runs in."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self._programs = folder / "shop", programs
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "API_PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
            "REDIS_PORT": str(free_port()),
        }
        self.log = folder / "up.log"

    def run(self, *words: str, folder: Path | None = None) -> str:
        """Run a program of the environment; its output. Fails with the output when the program fails."""
        ran = subprocess.run(
            [self._programs / words[0], *words[1:]],
            cwd=folder or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
        return ran.stdout

    def start(self) -> psutil.Popen:
        """Start `laneway up --reload`."""
        with self.log.open("wb") as out:
            argv = [self._programs / "laneway", "up", "--reload"]
            return psutil.Popen(argv, cwd=self.folder, env=self.environment, stdout=out, stderr=out)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until `laneway up` has written a text so many times."""
        try:
            wait_until(lambda: self.log.read_text("utf-8", "replace").count(text) >= times, seconds=SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{text!r}: {error}\n{self.log.read_text('utf-8', 'replace')[-6000:]}") from None

    def wait_for_row(self, query: str) -> None:
        """Wait until the database has what the query asks for: a command for each look would take seconds."""
        with closing(sqlite3.connect(self.folder / "data" / "laneway.db")) as connection:
            wait_until(lambda: connection.execute(query).fetchone(), seconds=SECONDS)

    def submit(self, name: str, payload: str) -> str:
        """Submit a task by the command line, and wait for its result."""
        return self.run("laneway", "submit", name, "--payload", payload, "--wait")


@pytest.fixture(scope="module")
def shop(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A running project, in an environment that has the wheel with its extra."""
    folder = tmp_path_factory.mktemp("own")
    subprocess.run([str(BIN / "uv"), "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], check=True)
    install(folder / "venv" / "bin" / "python", [f"laneway[platform] @ {wheel.as_uri()}", "pytest", "ruff"])
    made = Shop(folder, folder / "venv" / "bin")
    made.run("laneway", "new", "shop", folder=folder)
    made.run("python", "-c", f"import {', '.join(LOADED)}")  # once, before several processes compile the same modules
    process = made.start()
    try:
        made.wait_for("a change of the code restarts")
        yield made
    finally:
        _end(process)


def _end(process: psutil.Popen) -> None:
    """Stop the platform; kill what is left of it."""
    family = process.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(90)
    except psutil.TimeoutExpired:
        process.kill()
    for left in family:
        if left.is_running():
            left.kill()


def test_a_task_of_ones_own_is_submitted_seen_and_tested_in_five_minutes(shop: Shop) -> None:
    """One file is edited, and nothing is restarted by hand."""
    began = time.monotonic()
    assert "Hello, Ada" in shop.submit("greet", '{"name": "Ada"}')
    tasks = shop.folder / "shop" / "tasks.py"
    tasks.write_text(tasks.read_text("utf-8") + "\n\n" + OWN_TASK, "utf-8")
    shop.wait_for("worker is ready", times=2)
    shop.wait_for("api is ready", times=2)

    assert '"words": 6' in shop.submit("count_words", '{"text": "to be or not to be"}')

    found = json.loads(shop.run("laneway", "tasks", "list", "--json"))
    assert "count_words" in {task["name"] for task in found}
    tests = shop.folder / "tests" / "test_tasks.py"
    tests.write_text(tests.read_text("utf-8") + "\n\n" + OWN_TEST, "utf-8")
    assert "3 passed" in shop.run("pytest", "-q")
    assert time.monotonic() - began < 300


def test_its_workflow_runs_and_its_schedule_fires(shop: Shop) -> None:
    shop.run("laneway", "workflows", "start", "welcome", "--input", '{"name": "Ada"}')

    shop.wait_for_row("SELECT 1 FROM workflow_runs WHERE state = 'completed'")
    assert "completed" in shop.run("laneway", "workflows", "list")
    shop.wait_for_row("SELECT 1 FROM task_runs WHERE name = 'write_report' AND state = 'completed'")
    assert "write_report" in shop.run("laneway", "search", "--state", "completed")


def test_a_mistake_leaves_the_old_code_running_and_says_where_it_is(shop: Shop) -> None:
    tasks = shop.folder / "shop" / "tasks.py"
    good = tasks.read_text("utf-8")
    line = len(good.splitlines()) + 2
    tasks.write_text(f"{good}\nbroken = (\n", "utf-8")
    try:
        shop.wait_for(
            f"shop/tasks.py changed, but the old code goes on running: tasks of [tool.laneway] in {shop.folder}"
        )
        shop.wait_for(f"whose import failed at shop/tasks.py, line {line}: SyntaxError")

        url = f"http://127.0.0.1:{shop.environment['API_PORT']}"
        assert "Hello, Eve" in shop.run(
            "laneway", "--url", url, "submit", "greet", "--payload", '{"name": "Eve"}', "--wait"
        )
    finally:
        tasks.write_text(good, "utf-8")


def test_what_was_written_pleases_the_linter(shop: Shop) -> None:
    shop.run("ruff", "check", "shop")
    shop.run("ruff", "format", "--check", "shop")
