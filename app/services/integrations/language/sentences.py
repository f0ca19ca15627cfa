"""Sentences of plain text and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

FULL_LINE_LENGTH: Final = 60
"""Characters. A shorter line is a block of its own unless the next line starts with a lower-case letter."""

_BULLET: Final = re.compile(r"^\s*(?:(?:[-*•>]+|\d{1,3}[.)])\s+)+")
_OWN_LINE: Final = re.compile(r"^\s*(?:#|\||(?:[-*•>]+|\d{1,3}[.)])\s)")
"""Lines that start a new block: headings, table rows, list items."""
_END: Final = re.compile(r"(?<=[.!?…])[\"'”’)\]]*(?:\[\d+\]|\(\d+\))?\s+(?=[\"'“‘(\[]*[^\W_a-zß-ÿ])|(?<=[。！？｡])")
"""The end of a sentence: what follows does not begin with a small letter."""
_RULE: Final = re.compile(r"[|\s:=*_-]+")
"""A line of marks only, such as the one below the first row of a table."""
_ABBREVIATION: Final = re.compile(
    r"approx|ca|cf|co|corp|dept|dr|e\.g|eg|etc|fig|i\.e|ie|inc|jr|ltd|max|min|mrs?|ms|no|nr|[ap]\.m|prof|sr|st|tel|vs",
    re.IGNORECASE,
)
"""A full stop after these does not end a sentence, nor does one after a single capital letter."""
_LAST_WORD: Final = re.compile(r"([^\s(]+)\.$")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, and the Markdown heading above it (or an empty one)."""

    text: str
    heading: str
    opens_section: bool
    """Whether it is the first one under its heading."""
    continues: bool
    """Whether it follows another one in the same paragraph."""


def markdown_sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a Markdown text. A line that ends without a full stop, such as a list item, is one, too.

    The rows of a table are sentences that name each cell by its column.
    """
    heading, columns, opens = "", list[str](), False
    blocks = list(_blocks(text))
    for block, following in zip(blocks, [*blocks[1:], ""], strict=False):
        if block.lstrip().startswith("#"):
            heading, columns, opens = block.strip("# \t"), [], True
        elif _is_row(following) and _RULE.fullmatch(following):
            columns = _cells(block)
        elif not _RULE.fullmatch(block):
            columns = columns if _is_row(block) else []
            found = [_row(block, columns)] if columns else sentences(_BULLET.sub("", block))
            for number, sentence in enumerate(found):
                yield Sentence(sentence, heading, opens, continues=number > 0)
                opens = False


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("| \t").split("|")]


def _row(row: str, columns: Sequence[str]) -> str:
    """A row as a sentence: "Saturday: Shop 10 to 16, Workshop closed"."""
    first, *cells = _cells(row)
    named = [f"{name} {cell}".strip() for name, cell in zip(columns[1:], cells, strict=False) if cell]
    return f"{first}: {', '.join(named)}" if named else first


def _is_row(block: str) -> bool:
    return block.startswith("|")


def sentences(paragraph: str) -> Iterator[str]:
    """The sentences of a paragraph, each in one line."""
    start = 0
    for end in _END.finditer(paragraph):
        if _is_abbreviation(paragraph[start : end.start()]):
            continue
        yield from _in_one_line(paragraph[start : end.end()])
        start = end.end()
    yield from _in_one_line(paragraph[start:])


def _in_one_line(text: str) -> Iterator[str]:
    plain = " ".join(text.split())
    if plain:
        yield plain


def _is_abbreviation(text: str) -> bool:
    last = _LAST_WORD.search(text[-20:])
    return last is not None and (bool(_ABBREVIATION.fullmatch(last[1])) or (len(last[1]) == 1 and last[1].isupper()))


def _blocks(text: str) -> Iterator[str]:
    """Headings, list items, table rows and paragraphs; the wrapped lines of a paragraph or an item are joined."""
    block = ""
    for line in text.splitlines():
        if not _continues(block, line):
            if block:
                yield block
            block = line.strip()
        else:
            block = f"{block} {line.strip()}" if block else line.strip()
    if block:
        yield block


def _continues(block: str, line: str) -> bool:
    """Whether a line belongs to the block before it: it starts with a lower-case letter, or follows a full line."""
    if not block or not line.strip() or _OWN_LINE.match(line) or block.startswith(("#", "|")):
        return False
    return line.strip()[0].islower() or len(block) >= FULL_LINE_LENGTH
