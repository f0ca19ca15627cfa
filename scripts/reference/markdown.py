"""Writes Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. Cells are Markdown; line breaks and bars in them are kept from ending the cell."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def code(text: object) -> str:
    """The text as inline code; nothing for an empty text."""
    written = str(text).replace("`", "'")
    return f"`{written}`" if written else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
