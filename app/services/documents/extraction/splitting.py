"""Splits a text into passages, the unit in which documents are searched and cited."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

MAX_PASSAGE_LENGTH: Final = 900
"""Characters of a passage, including its heading."""
PARAGRAPH_BREAK_LENGTH: Final = 600
"""A passage with this many characters ends at the next paragraph."""
HEADING_BREAK_LENGTH: Final = 300
"""A passage with this many characters ends at the next heading."""
MAX_HEADING_LENGTH: Final = 120

_VERSION = "2"
"""Part of a document's digest. Raise it when `split` changes: then an ingestion splits an unchanged document again."""
_HEADING = re.compile(r"#{1,6}\s+\S")
_FENCE = re.compile(r"\s*(```|~~~)")
_CLOSERS = "”’」』》】）\"'"
_SENTENCE_START = re.compile(
    r"(?<=[.!?…。！？｡])\s+(?=\S)|\n(?=\s*(?:[-*+]|\d+[.)])\s)"
    rf"|(?<=[。！？｡])(?=[^\s{_CLOSERS}])|(?<=[。！？｡][{_CLOSERS}])(?=\S)"
)


def digest(title: str, text: str) -> str:
    """The digest that tells whether a document has changed."""
    return hashlib.sha256("\0".join((_VERSION, title, text)).encode()).hexdigest()


def split(text: str) -> list[str]:
    """Split a text into passages of at most 900 characters that end at a heading, paragraph or sentence if possible.

    Each passage begins with the Markdown heading above it, as a paragraph of its own.
    """
    done: list[str] = []
    passage, heading = "", ""
    for is_heading, separator, piece in _pieces(text):
        is_paragraph = separator == "\n\n"
        full = HEADING_BREAK_LENGTH if is_heading else PARAGRAPH_BREAK_LENGTH if is_paragraph else MAX_PASSAGE_LENGTH
        if passage and (len(passage) >= full or len(passage) + len(separator) + len(piece) > MAX_PASSAGE_LENGTH):
            done.append(passage)
            passage = piece if is_heading or not heading else f"{heading}\n\n{piece}"
        else:
            passage = passage + separator + piece if passage else piece
        heading = piece if is_heading else heading
    return [*done, passage] if passage else done


def _pieces(text: str) -> Iterator[tuple[bool, str, str]]:
    """(is a heading, separator before it, piece): headings, and sentences that fit into a passage with a heading."""
    room = MAX_PASSAGE_LENGTH - MAX_HEADING_LENGTH - len("\n\n")
    for is_heading, block in _blocks(text):
        if is_heading:
            yield True, "\n\n", block[:MAX_HEADING_LENGTH].rstrip()
            continue
        separator = "\n\n"
        for sentence, gap in _sentences(block):
            for piece in _cut(sentence, room):
                yield False, separator, piece
                separator = " "
            separator = gap


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """(is a heading, block): headings and paragraphs. A line that begins with # in a code block is no heading."""
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


def _sentences(paragraph: str) -> Iterator[tuple[str, str]]:
    """Sentences and list items, each with what separates it from the next: a line break, a space, or nothing."""
    start = 0
    for gap in _SENTENCE_START.finditer(paragraph):
        yield paragraph[start : gap.start()], "\n" if "\n" in gap.group() else gap.group()[:1] and " "
        start = gap.end()
    yield paragraph[start:], " "


def _cut(sentence: str, room: int) -> Iterator[str]:
    """The sentence if it fits, otherwise pieces of whole words; a word that is too long is cut."""
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
    """The first heading of a Markdown text without its marks; empty if there is none."""
    heading = next((block for is_heading, block in _blocks(text) if is_heading), "")
    return heading.lstrip("#").strip()
