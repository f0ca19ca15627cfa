"""No text that others wrote controls the terminal, whichever way a command prints it."""

from __future__ import annotations

import io
import re

import pytest
from rich.table import Table
from rich.text import Text

from app.core.settings import ROOT
from laneway._printable import printable_in_colour
from laneway.cli.base import Screen
from laneway.server.terminal import Terminal

EVIL = "before\x1b]0;title\x07\x1b[2J\x9b31mafter\u202e"


def shown(*what: object) -> str:
    file = io.StringIO()
    Screen(file=file, width=200, force_terminal=True).print(*what)
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())  # what is left are not our colours


def test_text_in_any_form_is_printed_without_control_characters() -> None:
    table = Table(title=Text(EVIL))
    table.add_column(Text(EVIL))
    table.add_row(EVIL)
    table.add_row(Text(EVIL))
    for what in (EVIL, Text(EVIL), Text.assemble((EVIL, "red")), table, ValueError(EVIL), [EVIL], {"a": EVIL}):
        found = shown(what)
        assert "after" in found
        assert not set("\x1b\x07\x9b\u202e") & set(found), what


def test_lines_of_processes_cannot_control_the_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.show_output("worker", EVIL)
    terminal.say(EVIL)
    terminal.fail(EVIL)

    written = capsys.readouterr()
    for text in (written.out, written.err):
        assert "after" in text
        assert not set("\x1b\x07\x9b\u202e") & set(text)


def test_a_coloured_log_line_keeps_only_its_colours() -> None:
    assert printable_in_colour(f"\x1b[31m{EVIL}\x1b[0m").count("\x1b") == 2


def test_no_command_prints_unchecked_text() -> None:
    """`say_error` and `out` check it. JSON has no control characters."""
    for folder in ("laneway/cli", "app"):
        for file in (ROOT / folder).rglob("*.py"):
            for line in file.read_text("utf-8").splitlines():
                if re.search(r"\b(typer\.)?echo\(", line) and "def " not in line:
                    assert re.search(r"printable\(|json\.dumps|version|\($|text\.replace", line), f"{file}: {line}"
