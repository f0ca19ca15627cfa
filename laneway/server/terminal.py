"""The output of `laneway up`: each line has its process's name in front; coloured on a terminal, plain in a pipe."""

from __future__ import annotations

import sys
from contextlib import suppress

from rich.console import Console
from rich.text import Text

from laneway._printable import printable

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_red")
OWN_NAME = "laneway"
NAME_WIDTH = 8


class Terminal:
    """Prints lines. When the reader of the output is gone, drops lines, so that the processes still stop gracefully."""

    def __init__(self) -> None:
        self._out = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._colours: dict[str, str] = {}
        self._closed = False

    def say(self, text: str) -> None:
        """Print a line from `laneway up` itself."""
        self._print(OWN_NAME, text, "bold")

    def show_output(self, name: str, text: str) -> None:
        """Print a line that a process wrote."""
        self._print(name, text, self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)]))

    @staticmethod
    def fail(text: str) -> None:
        """Print one sentence on standard error."""
        with suppress(OSError):
            print(printable(text), file=sys.stderr, flush=True)

    def _print(self, name: str, text: str, style: str) -> None:
        if self._closed:
            return
        line = printable(text) if name != OWN_NAME else (printable(text), style)
        try:
            self._out.print(Text.assemble((f"{name:<{NAME_WIDTH}}| ", style), line))
        except (OSError, SystemExit):  # rich ends the program on a broken pipe; the processes must be stopped first
            self._closed = True
            self._redirect_to_null()

    @staticmethod
    def _redirect_to_null() -> None:
        """Redirect standard output, so that the interpreter does not fail again when it flushes at exit."""
        with suppress(OSError):
            sys.stdout = open("/dev/null", "w")  # noqa: PTH123, SIM115
