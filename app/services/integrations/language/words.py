"""The words of an English text that matter for finding and comparing texts.

Different forms of a word have one key, and so have the synonyms of `synonyms.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import Final
from unicodedata import normalize

from snowballstemmer import EnglishStemmer

from app.services.integrations.language.scripts import with_pieces

MAX_TEXT: Final = 20_000
"""Characters of one text that are read."""
MAX_WORD: Final = 64
"""The most characters of a word. Longer runs of letters are hashes, keys or noise."""
SYNONYMS: Final = Path(__file__).with_name("synonyms.txt")

STOP_WORDS: Final = Path(__file__).with_name("stop_words.txt")

_WORD: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it is written, in lower case, and the key that it shares with its other forms and its synonyms."""

    text: str
    key: str


@dataclass(frozen=True, slots=True)
class _Synonyms:
    keys: dict[str, str]
    """The key of each stem that stands in a group."""
    words: dict[str, tuple[str, ...]]
    """The single words of a group, by its key."""
    phrases: dict[str, str]
    """Phrases, each with what replaces it."""
    pattern: re.Pattern[str]


def content_words(text: str, *, limit: int | None = None) -> list[Word]:
    """The first `limit` words with different keys, in order, without stop words; letters and digits only."""
    plain = with_pieces(normalize("NFKC", text[:MAX_TEXT]).lower().replace("’", "'"))
    found: dict[str, Word] = {}
    for word in _words(_synonyms().pattern.sub(_replace_phrase, plain)):
        found.setdefault(key_of(word), Word(word, key_of(word)))
    return list(islice(found.values(), limit))


def keys(text: str) -> frozenset[str]:
    """The keys of a text's content words."""
    return frozenset(word.key for word in content_words(text))


@lru_cache(maxsize=50_000)
def key_of(word: str) -> str:
    """The key of a word in lower case: its stem, or the key of its synonyms."""
    root = stem(word)
    return _synonyms().keys.get(root, root)


@cache
def stop_words() -> frozenset[str]:
    """The words that carry no meaning of their own, in lower case."""
    lines = STOP_WORDS.read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def variants(word: Word) -> tuple[str, ...]:
    """The words to look for in an index: the word itself, then its synonyms."""
    return tuple(dict.fromkeys((word.text, *_synonyms().words.get(word.key, ()))))


def _words(plain: str) -> Iterator[str]:
    for match in _WORD.finditer(plain):
        word = match.group()
        if word not in stop_words() and len(word) <= MAX_WORD:
            yield word


def _replace_phrase(match: re.Match[str]) -> str:
    return _synonyms().phrases[" ".join(match.group().split())]


def stem(word: str) -> str:
    """The stem of a word in lower case, by the Snowball algorithm."""
    return EnglishStemmer().stemWord(word)  # A new stemmer each time: threads cannot share one.


@cache
def _synonyms() -> _Synonyms:
    """The synonyms of the file, read once. Raises ValueError if a word stands in two groups."""
    keys: dict[str, str] = {}
    words: dict[str, tuple[str, ...]] = {}
    phrases: dict[str, str] = {}
    for line in SYNONYMS.read_text(encoding="utf-8").splitlines():
        members = [member.strip() for member in line.split(",")]
        if line.startswith("#") or not line.strip():
            continue
        first = members[0]
        single = [member for member in members if _WORD.fullmatch(member)] if _WORD.fullmatch(first) else []
        phrases.update((member, first) for member in members if member not in single and member != first)
        key = stem(first)
        for root in {stem(member) for member in single}:
            if keys.setdefault(root, key) != key:
                raise ValueError(f"{SYNONYMS.name}: {root!r} stands in two groups")
        words[key] = tuple(single)
    longest_first = sorted(phrases, key=len, reverse=True)
    pattern = "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in longest_first)
    return _Synonyms(keys, words, phrases, re.compile(rf"\b(?:{pattern})\b"))
