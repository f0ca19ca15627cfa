"""The form in which passages are indexed and questions are asked, the same for every database.

- Compatibility characters become plain ones (Unicode NFKC): "½" and "ﬁ", full-width letters, half-width katakana.
- Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese have no spaces between words, or endings on them. Their runs
  become overlapping pieces: 保修期 is indexed as 保, 修, 期, 保修 and 修期, and asked for as 保修 and 修期.
- A word that is divided at the end of a line is indexed as one word, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from unicodedata import category, normalize

_EAST_ASIAN = (
    r"\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_SOUTH_EAST_ASIAN = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
_RUN: Final = re.compile(rf"[{_EAST_ASIAN}]+|[{_SOUTH_EAST_ASIAN}]+")
_DIVIDED: Final = re.compile(r"([^\W\d_]{2,})[-\u2010\u00ac]\n\s*([^\W\d_]{2,})")
_THAI_TO_KHMER: Final = re.compile(rf"[{_SOUTH_EAST_ASIAN}]")
_SHORT, _LONG = 2, 3
"""Letters of a piece. Two of Chinese are a word; of Thai, which has fewer letters, three say as much."""


def indexed_form(text: str) -> str | None:
    """The text as it is indexed; None if that is the text itself."""
    form = _DIVIDED.sub(r"\1-\2 \1\2", normalize("NFKC", text))
    form = _RUN.sub(lambda run: _spaced(_all_pieces(run.group())), form)
    return None if form == text else form


def asked_form(question: str) -> str:
    """The question as it is searched for."""
    return _RUN.sub(lambda run: _spaced(_pieces(*_letters(run.group()))), normalize("NFKC", question))


def _all_pieces(run: str) -> Iterator[str]:
    """The pieces of a run, and shorter ones, so that a shorter question is found."""
    letters, length = _letters(run)
    yield from _pieces(letters, length - 1)
    if len(letters) >= length:
        yield from _pieces(letters, length)


def _pieces(letters: str, length: int) -> Iterator[str]:
    for start in range(max(1, len(letters) - length + 1)):
        yield letters[start : start + length]


def _letters(run: str) -> tuple[str, int]:
    """The run without vowel signs and tones, at which the indexes would divide it, and the length of its pieces."""
    if not _THAI_TO_KHMER.match(run):
        return run, _SHORT
    return "".join(letter for letter in run if not category(letter).startswith("M")), _LONG


def _spaced(pieces: Iterator[str]) -> str:
    return f" {' '.join(pieces)} "
