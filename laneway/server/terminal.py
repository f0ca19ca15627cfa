"""What `up` shows: each line with its part's name in front, coloured on a terminal, plain in a pipe."""

from __future__ import annotations

import sys
from contextlib import suppress

from rich.console import Console
from rich.text import Text

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_red")
OURS = "laneway"
WIDTH = 8


class Terminal:
    """Lines for a person. A terminal that went away is no reason to stop in disorder: its lines are dropped."""

    def __init__(self) -> None:
        self._out = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._colours: dict[str, str] = {}
        self._gone = False

    def say(self, text: str) -> None:
        """A line of our own."""
        self._write(OURS, text, "bold")

    def part(self, name: str, text: str) -> None:
        """A line that a part wrote."""
        self._write(name, text, self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)]))

    @staticmethod
    def fail(text: str) -> None:
        """One sentence on standard error."""
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)

    def _write(self, name: str, text: str, style: str) -> None:
        if self._gone:
            return
        try:
            self._out.print(Text.assemble((f"{name:<{WIDTH}}| ", style), text if name != OURS else (text, style)))
        except (OSError, SystemExit):  # rich ends the program on a broken pipe; the parts must be stopped first
            self._gone = True
            self._silence()

    @staticmethod
    def _silence() -> None:
        """Keep the interpreter from failing once more when it flushes at exit."""
        with suppress(OSError):
            sys.stdout = open("/dev/null", "w")  # noqa: PTH123, SIM115
