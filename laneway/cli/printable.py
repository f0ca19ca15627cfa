"""Text that others wrote (responses, file names, errors), as a terminal may show it."""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of the text that follows."""


def printable(text: str) -> str:
    """The text with a replacement mark for each control character, so that it cannot control the terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The text as a part of a line: also with spaces instead of line breaks and tabs."""
    return " ".join(printable(text).split())
