"""Tables on terminals of any width, and in files."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from laneway.cli.base import WIDE, Screen
from laneway.cli.tables import Cell, Fields, Grid, ident, number, text, when

LONG_ID = "order:2026-11-29:0b7c5f2e-1111-2222-3333-444455556666"
CHINESE = "数据库连接失败，请检查地址和密码是否正确，然后再试一次"
HOSTILE = "\x1b[2J\x1b]0;mine\x07bell\r\nnext\tline\u202eright\x9b31m"


def grid() -> Grid:
    """A table with everything that is hard."""
    table = Grid(ident("task id"), text("name"), "state", number("attempts"), "accepted", text("error"))
    accepted = datetime.now(UTC) - timedelta(minutes=3, seconds=5)
    table.add(LONG_ID, "make_thumbnail", Cell("failed", "red"), 2, when(accepted), CHINESE)
    table.add("t-2", "make_another_thumbnail_of_a_picture", Cell("completed", "green"), 1, when(accepted), HOSTILE)
    return table


def printed(width: int, *, terminal: bool = True, colours: bool = False) -> str:
    out = StringIO()
    system = "standard" if colours else None
    Screen(file=out, width=width, force_terminal=terminal, color_system=system, highlight=False).print(grid())
    return out.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
def test_a_table_fits_the_terminal_and_ids_are_whole(width: int) -> None:
    shown = printed(width)

    assert LONG_ID in shown.splitlines()[0 if width < 120 else 1]
    for line in shown.splitlines():
        assert cell_len(line) <= max(width, len(LONG_ID)), line
    assert "3 min ago" in shown


def test_a_wide_terminal_shows_a_row_a_line_and_local_times() -> None:
    title, first, second = printed(200).splitlines()

    local = (datetime.now(UTC) - timedelta(minutes=3, seconds=5)).astimezone()
    assert re.split(r"\s{2,}", title) == ["task id", "name", "state", "attempts", "accepted", "error"]
    assert f"{local:%Y-%m-%d %H:%M}" in first and "(3 min ago)" in first
    assert second.startswith("t-2  ")


def test_columns_are_aligned_with_wide_characters() -> None:
    table = Grid(text("a"), text("b"))
    table.add("日本語", "x")
    table.add("abcdef", "y")
    out = StringIO()
    Screen(file=out, width=80, force_terminal=True, color_system=None).print(table)
    lines = out.getvalue().splitlines()

    assert [cell_len(line[: line.index(mark)]) for line, mark in zip(lines, "bxy", strict=True)] == [8, 8, 8]


def test_a_file_gets_whole_rows_without_colours() -> None:
    shown = printed(WIDE, terminal=False)

    assert len(shown.splitlines()) == 3
    assert CHINESE in shown and "make_another_thumbnail_of_a_picture" in shown
    assert "\x1b" not in shown
    title, first, _ = shown.splitlines()
    assert first.index("make_thumbnail") == title.index("name"), "the columns are at the same place in each row"


def test_text_of_others_cannot_control_the_terminal() -> None:
    for width in (30, 80, 200):
        shown = printed(width)
        assert not set(shown) & set("\x1b\x07\r\t\u202e\x9b")
        assert "mine" in shown or width < 80


def test_colours_are_used_on_a_terminal_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[31m" in printed(200, colours=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in printed(200, colours=True)


def test_fields_keep_the_lines_of_a_value_and_cut_nothing() -> None:
    out, fields = StringIO(), Fields()
    fields.add("payload", '{\n  "a": 1\n}')
    fields.add("error", "x" * 300 + HOSTILE)
    Console(file=out, width=40, force_terminal=True, color_system=None).print(fields, soft_wrap=True)
    lines = out.getvalue().splitlines()

    assert lines[:3] == ["payload  {", '           "a": 1', "         }"]
    assert "x" * 300 in lines[3]
    assert not set(out.getvalue()) & set("\x1b\x07\r\u202e\x9b")
