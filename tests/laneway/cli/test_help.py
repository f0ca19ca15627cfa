"""Every command and option of `laneway` says what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from laneway.cli.main import cli


def silent(command: Any, path: str) -> Iterator[str]:
    """The commands and parameters without a word of help."""
    if not command.help:
        yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from silent(inner, f"{path} {name}")
    for parameter in command.params:
        if not getattr(parameter, "help", None):
            yield f"{path} {parameter.name}"


def test_everything_that_can_be_typed_has_help() -> None:
    assert list(silent(typer.main.get_command(cli), "laneway")) == []
