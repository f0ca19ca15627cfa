"""`laneway top`, driven by Textual's pilot: in the project and at a URL, with a real platform."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from laneway.cli.base import act_as_user
from laneway.cli.board.app import Board
from laneway.cli.board.task_screen import TaskScreen
from laneway.cli.local_source import LocalSource
from laneway.cli.remote_source import RemoteSource
from laneway.cli.source import Source
from laneway.cli.target import target
from laneway.schemas.task import TaskState
from tests.fixtures.shell import Shell
from tests.fixtures.site import Site

SECONDS = 15.0


@pytest.fixture(scope="module")
def url(installed: Site) -> Iterator[str]:
    """The address of the installation's API."""
    node = installed.api()
    yield f"http://127.0.0.1:{installed.api_port}"
    node.kill()


@pytest.fixture(params=["local", "remote"])
def source(request: pytest.FixtureRequest, laneway: Shell, url: str) -> Iterator[Source]:
    """Both kinds of platforms."""
    if request.param == "local":
        act_as_user()
        yield LocalSource(laneway.site.services, description="here")
        return
    remote = RemoteSource(url, None)
    yield remote
    remote.close()


def drive(source: Source, script: Callable[[Pilot[None], Board], Awaitable[None]], *, size: Any = (80, 24)) -> None:
    """Run the overview without a terminal, and do in it what the script does."""

    async def run() -> None:
        board = Board(source, every=0.5)
        async with board.run_test(size=size) as pilot:
            await script(pilot, board)

    asyncio.run(run())


def rows(board: Board) -> list[list[str]]:
    """The text of the table."""
    table = board.screen_stack[0].query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(index)] for index in range(table.row_count)]


def text_of(board: Board, id: str) -> str:
    return str(board.screen.query_one(id, Static).render())


async def until(pilot: Pilot[None], condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, rows(pilot.app)  # pyright: ignore[reportArgumentType]
        await pilot.pause(0.05)


def test_queues_are_shown_paused_and_resumed(source: Source, laneway: Shell) -> None:
    laneway.site.message("c-1")

    async def script(pilot: Pilot[None], board: Board) -> None:
        await until(pilot, lambda: rows(board))
        first = rows(board)[0]
        assert first[:3] == ["conversations", "no worker", "1"]
        await pilot.press("p")
        assert "Pause the queue conversations?" in str(board.screen.query_one(Static).render())
        await pilot.press("n", "p", "y")
        await until(pilot, lambda: rows(board)[0][1] == "paused")
        await pilot.press("u", "y")
        await until(pilot, lambda: rows(board)[0][1] == "no worker")

    drive(source, script)


def test_a_group_of_dead_letters_is_opened_and_requeued(source: Source, laneway: Shell) -> None:
    failed = {"error": "away", "error_type": "UpstreamError", "error_group": "g1"}
    dead = [laneway.end(TaskState.DEAD_LETTER, **failed) for _ in "ab"]

    async def script(pilot: Pilot[None], board: Board) -> None:
        await pilot.press("3")
        await until(pilot, lambda: rows(board) and rows(board)[0][0] == "2")
        await pilot.press("enter")
        await until(pilot, lambda: {row[0] for row in rows(board)} == set(dead))
        await pilot.press("escape")
        await until(pilot, lambda: rows(board) and rows(board)[0][-1] == "g1")
        await pilot.press("e", "y")
        await until(pilot, lambda: not rows(board))

    drive(source, script)
    assert {laneway.state(id) for id in dead} == {"pending"}


def test_a_task_is_found_and_cancelled(source: Source, laneway: Shell) -> None:
    id = laneway.site.message("c-1", "a text in its payload")

    async def script(pilot: Pilot[None], board: Board) -> None:
        await pilot.press("slash", *id, "enter")
        await until(pilot, lambda: isinstance(board.screen, TaskScreen))
        await until(pilot, lambda: "pending" in text_of(board, "#head"))
        await pilot.press("c", "y")
        await until(pilot, lambda: isinstance(board.screen, TaskScreen) and "cancelled" in text_of(board, "#head"))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(board.screen, TaskScreen))

    drive(source, script)
    assert laneway.state(id) == "cancelled"


def test_a_platform_that_is_away_is_said_and_comes_back(
    laneway: Shell, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "url", url)
    remote = RemoteSource(url, None)
    api = next(node for node in laneway.site.nodes if node.name == "api" and not node.ended)

    async def script(pilot: Pilot[None], board: Board) -> None:
        await until(pilot, lambda: rows(board))
        api.kill()
        await until(pilot, lambda: board.query_one("#problem").display)
        assert "No platform answers" in text_of(board, "#problem")
        assert rows(board), "what was known stays"
        await asyncio.to_thread(laneway.site.api)  # for the tests after this one, too
        await until(pilot, lambda: not board.query_one("#problem").display)
        await pilot.press("q")

    drive(remote, script)
    remote.close()


def test_it_fits_a_small_window_and_shows_itself(source: Source, tmp_path: Any) -> None:
    async def script(pilot: Pilot[None], board: Board) -> None:
        await until(pilot, lambda: rows(board))
        await pilot.press("question_mark")
        await pilot.press("escape")
        board.save_screenshot(str(tmp_path / "top.svg"))
        if folder := os.environ.get("LANEWAY_SCREENSHOTS"):
            board.save_screenshot(f"{folder}/top-{board.size.width}.svg")

    drive(source, script, size=(40, 12))
    drive(source, script, size=(80, 24))
    assert "conversations" in (tmp_path / "top.svg").read_text()
