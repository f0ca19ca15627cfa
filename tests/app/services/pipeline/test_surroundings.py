"""Commands of the pipeline in unusual surroundings: odd process names, missing rights, terminal codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.schemas.pipeline import Step
from app.services.pipeline import process
from app.services.pipeline.errors import BadFolder
from tests.fixtures.pipeline import FakeTask, Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A project below a root folder."""
    return Workshop(tmp_path / "root")


def test_a_process_with_an_invalid_utf8_name_does_no_harm(workshop: Workshop) -> None:
    """The kernel cuts names after 15 bytes, which may split a UTF-8 character."""
    named = "import pathlib; pathlib.Path('/proc/self/comm').write_bytes(b'gr\\xc3'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", named], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        try:
            assert workshop.run("print('done')").output == "done\n"
        finally:
            stranger.kill()


def test_a_process_that_cannot_be_ended_does_not_protect_the_others(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command may start programs that run as another user."""
    guard = tmp_path / "guard.py"
    guard.write_text(rf"""
import os, pathlib, runpy
kill = os.kill
def careful(pid, number):
    try:
        command = pathlib.Path(f'/proc/{{pid}}/cmdline').read_text()
    except OSError:
        raise ProcessLookupError(3, 'No such process') from None
    if command.split('\0')[2:3] and 'of another user' in command.split('\0')[2]:
        raise PermissionError(1, 'Operation not permitted')
    kill(pid, number)
os.kill = careful
runpy.run_path({str(process.GUARD)!r}, run_name='__main__')
""")
    monkeypatch.setattr(process, "GUARD", guard)
    code = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)  # of another user"])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("child.pid", "w").write(str(child.pid))
"""

    assert workshop.run(code).exit_code == 0
    assert len(workshop.written()) == 1
    assert workshop.alive() == []


def test_an_unwritable_folder_is_named(workshop: Workshop) -> None:
    (workshop.root / ".locks").write_text("in the way")
    with pytest.raises(BadFolder, match=r"\.locks"):
        workshop.run("pass")

    (workshop.root / ".locks").unlink()
    (workshop.folder / ".pipeline").mkdir()
    (workshop.folder / ".pipeline" / "qa-report.txt").mkdir()
    with pytest.raises(BadFolder, match=r"qa-report\.txt"):
        workshop.run("pass", step=Step.FIX, report="found")


def test_terminal_codes_of_a_command_are_not_logged(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    task = FakeTask()
    result = workshop.run(r"print('\x1b[31mred\x1b[0m \x1b]0;title\x07and\b plain\r')", task=task)

    assert result.output.startswith("\x1b[31mred")
    assert [said for said in task.messages if said] == ["red and plain"]
    assert "\x1b]0" not in capsys.readouterr().out
