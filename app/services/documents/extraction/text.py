"""The normal form of every text."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

from app.services.documents.extraction.errors import DocumentEmpty, NotText, TextTooLarge, megabytes

MAX_TITLE_LENGTH: Final = 300

_UNWANTED = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters except tab and line ends, lone surrogates, and noncharacters."""
_LETTERS: Final = {
    **{code: normalize("NFKC", chr(code)) for code in (*range(0xFB00, 0xFB07), *range(0xFB13, 0xFB18))},
    **dict.fromkeys((0x00AD, 0x200B, 0x2060, 0xFEFF), ""),
}
"""Ligatures as their letters; soft hyphens and other invisible marks, which would divide words, as nothing."""
_PLACEHOLDER_TITLE = re.compile(
    r"(microsoft (office )?word( - .*)?|word[- ]?document|(new )?document ?\d*|dokument ?\d*|untitled.*|no title)",
    re.IGNORECASE,
)
"""Titles that programs put into a file whose author gave none."""


def normalized_text(name: str, text: str, *, max_bytes: int) -> str:
    """The text in Unicode normal form C with plain line ends, at most `max_bytes` in UTF-8 before and after.

    Ligatures become letters, and invisible marks within words are removed.

    Raises DocumentEmpty, TextTooLarge, and NotText for null bytes and broken characters.
    """
    _check_size(name, text, max_bytes=max_bytes)
    if "\0" in text:
        raise NotText(name, "a null byte")
    text = normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").translate(_LETTERS)).strip()
    if not text:
        raise DocumentEmpty(name)
    _check_size(name, text, max_bytes=max_bytes)  # Some characters become up to three times longer in normal form.
    return text


def _check_size(name: str, text: str, *, max_bytes: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise NotText(name, "a broken character") from error
    if size > max_bytes:
        raise TextTooLarge(name, f"at most {megabytes(max_bytes)}")


def cleaned(text: str) -> str:
    """A text from a file format, without the unwanted characters that its fonts or tags produce."""
    return _UNWANTED.sub("", text)


def as_title(text: str) -> str:
    """The text as a title: printable, in one line, at most 300 characters; it may be empty."""
    start = text[: 10 * MAX_TITLE_LENGTH].translate(_LETTERS)
    printable = "".join(character if character.isprintable() else " " for character in start)
    return " ".join(printable.split())[:MAX_TITLE_LENGTH].strip()


def own_title(text: str) -> str:
    """The title that a file states, in one line; empty if it is only what a program writes when there is none."""
    title = as_title(text)
    return "" if _PLACEHOLDER_TITLE.fullmatch(title) else title
