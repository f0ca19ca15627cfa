"""`laneway top`: the overview of a platform in a terminal."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from laneway._extras import require
from laneway.cli.base import source
from laneway.cli.target import UsageError
from laneway.cli.times import duration

commands = typer.Typer()
LEAST = 0.5
MOST = 60.0
"""Seconds between two looks."""


@commands.command()
def top(
    every: Annotated[float, duration("Look again this often: 0.5s, 2s, 1m.")] = 2,
) -> None:
    """Watch queues, running tasks, dead letters and workers in the terminal.

    Keys open a task, pause and resume queues, cancel and retry tasks, requeue dead letters; `?` lists them.
    """
    if not LEAST <= every <= MOST:
        raise typer.BadParameter(f"--every is between {LEAST:g}s and {MOST:g}s.")
    require("top", ("textual",), what="`laneway top`")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("`laneway top` needs a terminal. For scripts use `laneway stats --json`.")
    platform = source(stays=True)
    from laneway.cli.board.app import Board
    from laneway.cli.missing import forget_missing

    logging.disable(logging.CRITICAL)  # a log line would be written over the screen; problems are shown there
    try:
        Board(platform, every=every).run()
    finally:
        logging.disable(logging.NOTSET)
    forget_missing()  # the screen has said it
