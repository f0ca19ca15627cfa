"""Scripts without spaces between words: their runs are divided into overlapping pieces, which stand for words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from unicodedata import category

_EAST_ASIAN: Final = (
    r"\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
_SOUTH_EAST_ASIAN: Final = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
_RUN: Final = re.compile(rf"(?P<east>[{_EAST_ASIAN}]+)|[{_SOUTH_EAST_ASIAN}]+")


def with_pieces(text: str, *, shorter: bool = False) -> str:
    """The text with each run of Chinese, Japanese, Korean, Thai, Lao, Khmer or Burmese as its pieces, between spaces.

    A piece has two letters, or three without vowel signs and tones in the scripts of South-East Asia. `shorter`: with
    pieces of one letter less as well, so that an index finds a shorter question, too.
    """

    def divided(run: re.Match[str]) -> str:
        letters, length = (run.group(), 2) if run["east"] else (_without_signs(run.group()), 3)
        pieces = [*_pieces(letters, length - 1)] if shorter else []
        if not shorter or len(letters) >= length:
            pieces += _pieces(letters, length)
        return f" {' '.join(pieces)} "

    return _RUN.sub(divided, text)


def is_piece(word: str) -> bool:
    """Whether a word is a piece of a run, which may have the end of one word and the beginning of the next."""
    return _RUN.fullmatch(word) is not None


def _without_signs(run: str) -> str:
    """The run without vowel signs and tones, at which the indexes would divide it."""
    return "".join(letter for letter in run if not category(letter).startswith("M"))


def _pieces(letters: str, length: int) -> Iterator[str]:
    for start in range(max(1, len(letters) - length + 1)):
        yield letters[start : start + length]
