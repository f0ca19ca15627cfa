"""Tables that fit the terminal.

A table of which the output is no terminal has its natural width: nothing is cut, so that `grep` and `awk` find
everything. On a terminal a table that is too wide first shows the short form of its cells, then cuts the columns that
may be cut, and at last shows each row as a few lines. A column of ids is never cut or broken, because people copy ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from laneway._printable import one_line, printable
from laneway.cli import times

GAP: Final = "  "
ELLIPSIS: Final = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """A column and how it may shrink."""

    title: str
    right: bool = False
    least: int | None = None
    """Characters that are left of it at least when it is cut. None: it is not cut."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value with a style, and a short form for a narrow terminal."""

    text: str
    style: str = ""
    short: str | None = None


Value: TypeAlias = str | int | Cell | None


def ident(title: str) -> Column:
    """A column of ids: never cut."""
    return Column(title)


def number(title: str) -> Column:
    """A column of numbers."""
    return Column(title, right=True)


def text(title: str, *, least: int = 8) -> Column:
    """A column of text that may be cut."""
    return Column(title, least=least)


def when(at: datetime | None) -> Cell:
    """A time: local, and how long ago it was; on a narrow terminal only the latter."""
    if at is None:
        return Cell("")
    return Cell(f"{times.local(at)} ({times.ago(at)})", short=times.ago(at))


class Grid:
    """A table. Line breaks and control characters in its cells are replaced."""

    def __init__(self, *columns: Column | str) -> None:
        self._columns = [column if isinstance(column, Column) else Column(column, least=6) for column in columns]
        self._rows: list[list[Cell]] = []

    def add(self, *values: Value) -> None:
        """Add a row."""
        self._rows.append([_cell(value) for value in values])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not console.is_terminal:
            return self._lines(self._rows, self._widths(self._rows))
        return self._fitted(console.width)

    def _fitted(self, width: int) -> Iterable[Text]:
        rows = self._rows
        if self._total(widths := self._widths(rows)) > width:
            rows = [[Cell(cell.short or cell.text, cell.style) for cell in row] for row in rows]
            widths = self._widths(rows)
        if self._total(widths) <= width:
            return self._lines(rows, widths)
        cut = self._cut(widths, self._total(widths) - width)
        return self._lines(rows, cut) if cut else self._records(rows, width)

    def _widths(self, rows: Sequence[Sequence[Cell]]) -> list[int]:
        return [
            max([cell_len(column.title), *(cell_len(row[place].text) for row in rows)])
            for place, column in enumerate(self._columns)
        ]

    def _total(self, widths: Sequence[int]) -> int:
        return sum(widths) + len(GAP) * (len(widths) - 1)

    def _cut(self, widths: Sequence[int], surplus: int) -> list[int] | None:
        """The widths without the surplus, taken from the widest columns first; None if too much would be cut."""
        cut = list(widths)
        while surplus > 0:
            room = [cut[place] - (column.least or cut[place]) for place, column in enumerate(self._columns)]
            places = [place for place, left in enumerate(room) if left > 0]
            if not places:
                return None
            widest = max(places, key=lambda place: cut[place])
            cut[widest] -= 1
            surplus -= 1
        return cut

    def _lines(self, rows: Sequence[Sequence[Cell]], widths: Sequence[int]) -> Iterable[Text]:
        titles = [Cell(column.title, "bold") for column in self._columns]
        for row in (titles, *rows):
            line = Text(no_wrap=True, overflow="ignore")
            for place, (cell, column, width) in enumerate(zip(row, self._columns, widths, strict=True)):
                line.append(GAP if place else "").append(_padded(cell.text, width, right=column.right), cell.style)
            line.rstrip()
            yield line

    def _records(self, rows: Sequence[Sequence[Cell]], width: int) -> Iterable[Text]:
        """Each row as a few lines: its first value, then the others with their titles."""
        label = max(cell_len(column.title) for column in self._columns[1:])
        for row in rows:
            yield Text(row[0].text, row[0].style or "bold", no_wrap=True, overflow="ignore")
            for cell, column in zip(row[1:], self._columns[1:], strict=True):
                if cell.text:
                    value = cell.text if column.least is None else _cut_text(cell.text, width - label - 2 * len(GAP))
                    yield Text(f"{GAP}{_padded(column.title, label)}{GAP}", "dim").append(value, cell.style)


class Fields:
    """One thing, one line a field. Long values are not cut: the terminal wraps them."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, Cell]] = []

    def add(self, name: str, value: Value) -> None:
        """Add a field. Its value may have several lines."""
        cell = value if isinstance(value, Cell) else Cell("" if value is None else str(value))
        self._rows.append((name, cell))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label = max((cell_len(name) for name, _ in self._rows), default=0)
        for name, cell in self._rows:
            indent = "\n" + " " * (label + len(GAP))
            line = Text(f"{_padded(printable(name), label)}{GAP}", no_wrap=True, overflow="ignore")
            yield line.append(indent.join(printable(cell.text).splitlines() or [""]), cell.style)


def _cell(value: Value) -> Cell:
    if isinstance(value, Cell):
        return Cell(one_line(value.text), value.style, value.short)
    return Cell("" if value is None else one_line(str(value)))


def _padded(value: str, width: int, *, right: bool = False) -> str:
    length = cell_len(value)
    if length > width:
        return _cut_text(value, width)
    space = " " * (width - length)
    return space + value if right else value + space


def _cut_text(value: str, width: int) -> str:
    if cell_len(value) <= width:
        return value
    return set_cell_size(value, max(0, width - 1)).rstrip() + ELLIPSIS
