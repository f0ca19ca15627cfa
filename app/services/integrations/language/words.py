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

import snowballstemmer

MAX_TEXT: Final = 20_000
"""Characters of one text that are read."""
MAX_WORD: Final = 64
"""The most characters of a word. Longer runs of letters are hashes, keys or noise."""
SYNONYMS: Final = Path(__file__).with_name("synonyms.txt")

_WORD: Final = re.compile(r"[^\W_]+")

STOP_WORDS: Final = frozenset(
    """
    a about above across after again against ago ain all almost along already also although always am among an and
    another any anybody anyone anything anyway are aren around as at away back be became because become been before
    behind being below beside besides between both but by came can cannot come could couldn d did didn do does doesn
    doing don done during each either else ever every everybody everyone everything for from further gave get gets
    getting give given gives go goes going gone got had hadn happen happened happens has hasn have haven having he hello
    help her here hers herself hey hi him himself his how however i if in indeed instead into is isn it its itself just
    know last least less let like ll long look lot m made make makes making many may maybe me might mightn mine more
    most much must mustn my myself near need needed needs neither never no nobody none nor not nothing now o of off often
    oh ok okay on once one only onto or other others otherwise our ours ourselves out over own per perhaps please put
    quite rather re really s said same say says seem seems several shall shan she should shouldn since so some somebody
    someone something sometimes soon still such sure t take taken takes taking tell than thank thanks that the their
    theirs them themselves then there these they thing things think this those though through till to together too
    toward towards try under unless until up upon us use uses using ve very via want wanted wants was wasn way we
    well went were weren what whatever when whenever where whether which while who whoever whole whom whose why will
    with within without won would wouldn yes yet you your yours yourself yourselves
    """.split()
)
"""Words that carry no meaning of their own, and the pieces that an apostrophe leaves ("don't" is "don" and "t")."""


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
    plain = normalize("NFKC", text[:MAX_TEXT]).lower().replace("’", "'")
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
    stem = _stem(word)
    return _synonyms().keys.get(stem, stem)


def variants(word: Word) -> tuple[str, ...]:
    """The words to look for in an index: the word itself, then its synonyms."""
    return tuple(dict.fromkeys((word.text, *_synonyms().words.get(word.key, ()))))


def _words(plain: str) -> Iterator[str]:
    for match in _WORD.finditer(plain):
        word = match.group()
        if word not in STOP_WORDS and len(word) <= MAX_WORD:
            yield word


def _replace_phrase(match: re.Match[str]) -> str:
    return _synonyms().phrases[" ".join(match.group().split())]


def _stem(word: str) -> str:
    # A new stemmer each time: threads cannot share one.
    return snowballstemmer.stemmer("english").stemWord(word)


@cache
def _synonyms() -> _Synonyms:
    """The synonyms of the file, read once. Raises ValueError if a word stands in two groups."""
    keys: dict[str, str] = {}
    words: dict[str, tuple[str, ...]] = {}
    phrases: dict[str, str] = {}
    for line in SYNONYMS.read_text().splitlines():
        members = [member.strip() for member in line.split(",")]
        if line.startswith("#") or not line.strip():
            continue
        first = members[0]
        single = [member for member in members if _WORD.fullmatch(member)] if _WORD.fullmatch(first) else []
        phrases.update((member, first) for member in members if member not in single and member != first)
        key = _stem(first)
        for stem in {_stem(member) for member in single}:
            if keys.setdefault(stem, key) != key:
                raise ValueError(f"{SYNONYMS.name}: {stem!r} stands in two groups")
        words[key] = tuple(single)
    alternatives = "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in sorted(phrases, key=len, reverse=True))
    return _Synonyms(keys, words, phrases, re.compile(rf"\b(?:{alternatives})\b"))
