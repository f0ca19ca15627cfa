"""A submission reaches the script in few calls: the frames of our own code on the stack when the script is sent."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest

import laneway
from laneway.engine.connection import RawConnection
from laneway.platform.db.session import Database
from tests.fixtures.api_calls import Api
from tests.fixtures.platform import Platform

REPOSITORY = Path(laneway.__file__).parent.parent
OWN_FOLDERS = (str(REPOSITORY / "laneway"), str(REPOSITORY / "app"))
MAX_FRAMES = 12


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


class SentScripts:
    """Notes the stack of each script call that carries a text."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
        self.stacks: list[list[str]] = []
        send = RawConnection.send

        def noting(connection: RawConnection, command: object) -> None:
            parts = command if isinstance(command, tuple) else ()
            if any(isinstance(part, bytes) and text in part for part in parts):
                self.stacks.append(_own_frames(sys._getframe(1)))  # pyright: ignore[reportPrivateUsage]
            send(connection, command)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(RawConnection, "send", noting)


def _own_frames(frame: FrameType | None) -> list[str]:
    names: list[str] = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(OWN_FOLDERS):
            names.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_qualname}")
        frame = frame.f_back
    return names


def test_a_submission_over_http_reaches_the_script_within_the_limit(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"name": "cleanup_old_data_task", "payload": {}}
    api.http.post("/tasks", json=body)  # the server has the script from now on
    scripts = SentScripts(monkeypatch, b"m-17")

    answer = api.http.post("/tasks", json={**body, "id": "m-17"})

    assert answer.status_code == 202, answer.text

    (stack,) = scripts.stacks
    assert stack[-1] == "submission_groups.py:SubmissionGroups._work", "the thread that accepts the submissions"
    assert len(stack) <= MAX_FRAMES, stack


def test_a_submission_in_the_process_reaches_the_script_within_the_limit(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.chore()  # the server has the script from now on
    scripts = SentScripts(monkeypatch, b"m-17")

    platform.chore("m-17")

    (stack,) = scripts.stacks
    assert stack[-1] == "task_manager.py:TaskManager.submit"
    assert len(stack) <= MAX_FRAMES - 1, stack
