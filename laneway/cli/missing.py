"""What a command could not show. It is said at its end, on standard error, and the exit code is then not 0."""

from __future__ import annotations

from typing import Final

import typer

from laneway._printable import printable

_missing: Final[list[str]] = []


def say_missing(text: str) -> None:
    """Say at the end, on standard error, what the command could not show; its exit code is then not 0."""
    if text not in _missing:
        _missing.append(text)


def forget_missing() -> None:
    """Begin a new command."""
    _missing.clear()


def report_missing() -> int:
    """Say what the command could not show; returns 1 if there was something, else 0."""
    for text in _missing:
        typer.echo(printable(text), err=True)
    code = 1 if _missing else 0
    _missing.clear()
    return code
