"""Text that others wrote (responses, file names, errors), as a terminal may show it."""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of the text that follows."""


_NOT_COLOURS: Final = re.compile(rf"(\x1b\[[0-9;]*m)|{_CONTROLS.pattern}")


def printable(text: str) -> str:
    """The text with a replacement mark for each control character, so that it cannot control the terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The text as a part of a line: also with spaces instead of line breaks and tabs."""
    return " ".join(printable(text).split())


def printable_in_colour(text: str) -> str:
    """As `printable`, but colours stay: for lines that our own code has coloured, with text of others in them."""
    return _NOT_COLOURS.sub(lambda found: found[1] or "\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
