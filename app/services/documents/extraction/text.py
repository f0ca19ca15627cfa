"""The normal form of every text."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

from app.services.documents.extraction.errors import DocumentEmpty, NotText, TextTooLarge, megabytes

MAX_TITLE_LENGTH: Final = 300

_UNWANTED = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters except tab and line ends, lone surrogates, and noncharacters."""


def normalized_text(name: str, text: str, *, max_bytes: int) -> str:
    """The text in Unicode normal form C with plain line ends, at most `max_bytes` in UTF-8 before and after.

    Raises DocumentEmpty, TextTooLarge, and NotText for null bytes and broken characters.
    """
    _check_size(name, text, max_bytes=max_bytes)
    if "\0" in text:
        raise NotText(name, "a null byte")
    text = normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
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
    printable = "".join(character if character.isprintable() else " " for character in text[: 10 * MAX_TITLE_LENGTH])
    return " ".join(printable.split())[:MAX_TITLE_LENGTH].strip()
