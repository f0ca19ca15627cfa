"""The passages of a text: the unit in which documents are searched and cited."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

MAX_PASSAGE: Final = 900
"""Characters of a passage, its heading included."""
FULL_PASSAGE: Final = 600
"""A passage that has so many characters ends at the next paragraph,"""
SHORT_PASSAGE: Final = 300
"""and one that has so many at the next heading."""
MAX_HEADING: Final = 120

_SPLITTING = "1"
"""Part of a document's digest: raise it when `split` changes, and every document is split again when it comes in."""
_HEADING = re.compile(r"#{1,6}\s+\S")
_FENCE = re.compile(r"\s*(```|~~~)")
_SENTENCE_START = re.compile(r"(?<=[.!?…])\s+(?=\S)|\n(?=\s*(?:[-*+]|\d+[.)])\s)")


def digest(title: str, text: str) -> str:
    """What tells whether a document has changed."""
    return hashlib.sha256("\0".join((_SPLITTING, title, text)).encode()).hexdigest()


def split(text: str) -> list[str]:
    """The passages of a text: at most 900 characters, ended at a heading, a paragraph or a sentence where possible.

    Each begins with the Markdown heading that it stands under, as its own paragraph.
    """
    done: list[str] = []
    passage, heading = "", ""
    for is_heading, separator, piece in _pieces(text):
        enough = SHORT_PASSAGE if is_heading else FULL_PASSAGE if separator == "\n\n" else MAX_PASSAGE
        if passage and (len(passage) >= enough or len(passage) + len(separator) + len(piece) > MAX_PASSAGE):
            done.append(passage)
            passage = piece if is_heading or not heading else f"{heading}\n\n{piece}"
        else:
            passage = passage + separator + piece if passage else piece
        heading = piece if is_heading else heading
    return [*done, passage] if passage else done


def _pieces(text: str) -> Iterator[tuple[bool, str, str]]:
    """(is it a heading, what stands before it, piece): headings, and sentences that fit into a passage with one."""
    room = MAX_PASSAGE - MAX_HEADING - len("\n\n")
    for is_heading, block in _blocks(text):
        if is_heading:
            yield True, "\n\n", block[:MAX_HEADING].rstrip()
            continue
        separator = "\n\n"
        for sentence in _sentences(block):
            for piece in _cut(sentence, room):
                yield False, separator, piece
                separator = " "
            separator = "\n" if sentence.endswith("\n") else " "


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """(is it a heading, block): headings and paragraphs; a line that begins with # in a code block is no heading."""
    paragraph: list[str] = []
    fenced = False
    for line in [*text.split("\n"), ""]:
        fenced ^= bool(_FENCE.match(line))
        is_heading = not fenced and bool(_HEADING.match(line))
        if paragraph and (is_heading or not line.strip()):
            yield False, "\n".join(paragraph)
            paragraph = []
        if is_heading:
            yield True, line.rstrip()
        elif line.strip():
            paragraph.append(line.rstrip())
    if paragraph:
        yield False, "\n".join(paragraph)


def _sentences(paragraph: str) -> Iterator[str]:
    """Sentences and list items; one that was followed by a line break keeps it."""
    start = 0
    for gap in _SENTENCE_START.finditer(paragraph):
        yield paragraph[start : gap.start()] + ("\n" if "\n" in gap.group() else "")
        start = gap.end()
    yield paragraph[start:]


def _cut(sentence: str, room: int) -> Iterator[str]:
    """The sentence, or pieces of it between words, and a word without end in pieces of its own."""
    sentence = sentence.strip("\n")
    if len(sentence) <= room:
        yield sentence
        return
    piece = ""
    for word in re.findall(rf"\S{{1,{room}}}", sentence):
        if piece and len(piece) + 1 + len(word) > room:
            yield piece
            piece = ""
        piece = f"{piece} {word}" if piece else word
    yield piece


def first_heading(text: str) -> str:
    """The first heading of a Markdown text, without its marks; empty when there is none."""
    heading = next((block for is_heading, block in _blocks(text) if is_heading), "")
    return heading.lstrip("#").strip()
