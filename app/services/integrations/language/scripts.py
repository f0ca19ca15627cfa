"""Scripts without spaces between words: their runs are divided into overlapping pieces, which stand for words."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category

_EAST_ASIAN: Final = (
    r"\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
_SOUTH_EAST_ASIAN: Final = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
_RUN: Final = re.compile(rf"(?P<east>[{_EAST_ASIAN}]+)|[{_SOUTH_EAST_ASIAN}]+")


def with_pieces(text: str) -> str:
    """The text with each run of Chinese, Japanese, Korean, Thai, Lao, Khmer or Burmese as its pieces, between spaces.

    A piece has two letters, or three without vowel signs and tones in the scripts of South-East Asia.
    """
    return _RUN.sub(_pieces, text)


def is_piece(word: str) -> bool:
    """Whether a word is a piece of a run, which may have the end of one word and the beginning of the next."""
    return _RUN.fullmatch(word) is not None


def _pieces(run: re.Match[str]) -> str:
    if run["east"]:
        letters, length = run.group(), 2
    else:
        letters, length = "".join(letter for letter in run.group() if not category(letter).startswith("M")), 3
    pieces = (letters[start : start + length] for start in range(max(1, len(letters) - length + 1)))
    return f" {' '.join(pieces)} "
