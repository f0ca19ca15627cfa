"""One normal form for every text."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

from app.services.documents.extraction.errors import DocumentEmpty, NotText, TextTooLarge, megabytes

MAX_TITLE: Final = 300

_UNWANTED = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters but for tab and line ends, halves of surrogate pairs, and what is no character."""


def checked(name: str, text: str, *, most: int) -> str:
    """A text in normal form, with plain line ends; at most `most` bytes in UTF-8, before and after.

    Raises DocumentEmpty, TextTooLarge, and NotText for null bytes and broken characters.
    """
    _check_size(name, text, most=most)
    if "\0" in text:
        raise NotText(name, "a null byte")
    text = normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if not text:
        raise DocumentEmpty(name)
    _check_size(name, text, most=most)  # a few characters are longer in normal form, up to three times
    return text


def _check_size(name: str, text: str, *, most: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise NotText(name, "a broken character") from error
    if size > most:
        raise TextTooLarge(name, f"at most {megabytes(most)}")


def cleaned(text: str) -> str:
    """A text out of a file format, without the characters that its fonts or tags should not have led to."""
    return _UNWANTED.sub("", text)


def fitting_title(title: str) -> str:
    """What can be a title of it: printable, in one line, at most 300 characters; maybe nothing."""
    printable = "".join(character if character.isprintable() else " " for character in title[: 10 * MAX_TITLE])
    return " ".join(printable.split())[:MAX_TITLE].strip()
