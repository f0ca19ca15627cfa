"""Words and sentences of English text, for matching questions with sentences."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Final

import snowballstemmer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
from stop_words import get_stop_words

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BULLET = re.compile(r"^\s*(?:(?:[-*•>]+|\d{1,3}[.)])\s+)+")
_OWN_LINE = re.compile(r"^\s*(?:#|\||(?:[-*•>]+|\d{1,3}[.)])\s)")
"""Lines that start a new block: headings, table rows, list items."""
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|half|twice|once)\b", re.IGNORECASE
)
_ASKS_NUMBER = re.compile(
    r"\bhow (?:long|many|much|often|old|far|soon|late|early)\b|\bwhen\b|\bwhat (?:time|price)\b", re.I
)

KEPT_WORDS: Final = frozenset(
    {
        "amount",
        "available",
        "bill",
        "bills",
        "buy",
        "call",
        "cases",
        "close",
        "computer",
        "copy",
        "date",
        "fire",
        "fix",
        "free",
        "front",
        "group",
        "help",
        "home",
        "website",
        "hour",
        "hours",
        "keys",
        "length",
        "lower",
        "member",
        "members",
        "name",
        "number",
        "numbers",
        "open",
        "opened",
        "opening",
        "opens",
        "order",
        "ordered",
        "ordering",
        "orders",
        "page",
        "pages",
        "parts",
        "problem",
        "problems",
        "room",
        "rooms",
        "second",
        "seconds",
        "site",
        "sites",
        "stop",
        "system",
        "test",
        "text",
        "tip",
        "value",
        "width",
        "weight",
        "work",
        "works",
        "working",
    }
)
"""Words of the stop word list that are kept: they matter in customers' questions."""

ABBREVIATIONS: Final = frozenset(
    {
        "approx",
        "ca",
        "cf",
        "co",
        "corp",
        "dept",
        "dr",
        "e.g",
        "eg",
        "etc",
        "fig",
        "i.e",
        "ie",
        "inc",
        "jr",
        "ltd",
        "max",
        "min",
        "mr",
        "mrs",
        "ms",
        "no",
        "nr",
        "p.m",
        "a.m",
        "prof",
        "sr",
        "st",
        "tel",
        "vs",
    }
)
"""A full stop after these does not end a sentence."""

FULL_LINE_LENGTH = 60
"""Characters. A shorter line is a block of its own unless the next line starts with a lower-case letter."""


def content_words(text: str) -> dict[str, str]:
    """The content words of a text: each stem with the first word that it came from, in order."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    words = [word.removesuffix("'s") for word in _WORD.findall(plain)]
    kept = [word for word in words if word not in _stop_words() and (len(word) > 1 or word.isdigit())]
    found: dict[str, str] = {}
    for word, stem in zip(kept, _stems(kept), strict=True):
        found.setdefault(stem, word)
    return found


def all_words(text: str) -> list[str]:
    """All words in lower case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def asks_for_number(text: str) -> bool:
    """Whether a question asks for a number: how long, how many, when …"""
    return bool(_ASKS_NUMBER.search(text))


def has_number(text: str) -> bool:
    """Whether a sentence has a number, in digits or in words."""
    return bool(_NUMBER.search(text))


def sentences(text: str) -> Iterator[tuple[str, str]]:
    """The sentences of a text, each with the Markdown heading above it, or an empty one.

    A line that ends without a full stop, such as a list item, is a sentence too.
    """
    heading = ""
    for block in _blocks(text):
        if block.lstrip().startswith("#"):
            heading = block.strip("# \t")
            continue
        for sentence in _splitter().tokenize(_BULLET.sub("", block)):
            plain = " ".join(sentence.split())
            if plain:
                yield heading, plain


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


def _stems(words: list[str]) -> list[str]:
    # A new stemmer each time: threads cannot share one.
    return snowballstemmer.stemmer("english").stemWords(words)


@cache
def _stop_words() -> frozenset[str]:
    return frozenset(word for word in get_stop_words("en") if not word.isdigit()) - KEPT_WORDS


@cache
def _splitter() -> PunktSentenceTokenizer:
    parameters = PunktParameters()
    parameters.abbrev_types = set(ABBREVIATIONS)
    return PunktSentenceTokenizer(parameters)
