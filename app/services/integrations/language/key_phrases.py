"""Key phrases of English texts: runs of content words, ranked by the company that their words keep (RAKE).

A word's degree is the number of words in all the phrases that have it. The score of a phrase is the sum over its words:
long phrases and recurring words come first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Final
from unicodedata import normalize

from app.services.integrations.language.words import MAX_TEXT, MAX_WORD, stop_words

MAX_TEXTS: Final = 500
"""Number of texts that key phrases come from."""
MAX_LENGTH: Final = 100_000
"""Characters of all those texts together."""
MAX_WORDS: Final = 3
"""The most words of a phrase; longer runs of content words are none."""

_NUMBER: Final = re.compile(
    r"\d+|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|first|second|third|fourth|hundred|half|twice"
)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])\s+|[\r\n]+")
_TOKEN: Final = re.compile(r"\w+|[^\w\s]+")


def key_phrases(texts: Iterable[str], *, limit: int = 10) -> list[str]:
    """The best phrases of at most three words, in lower case, best first; the same texts give the same phrases."""
    phrases = [phrase for text in _bounded(texts) for phrase in _phrases(text)]
    degree: Counter[str] = Counter()
    for phrase in phrases:
        for word in phrase:
            degree[word] += len(phrase)
    scores = {" ".join(phrase): sum(degree[word] for word in phrase) for phrase in phrases}
    return sorted(scores, key=lambda phrase: (-scores[phrase], phrase))[:limit]


def _phrases(text: str) -> Iterator[tuple[str, ...]]:
    """Runs of content words. Everything else ends a run: marks, numbers, single letters and stop words."""
    for sentence in _SENTENCE_END.split(text):
        for is_word, run in groupby(_TOKEN.findall(sentence.lower()), key=_is_content_word):
            words = tuple(run)
            if is_word and len(words) <= MAX_WORDS:
                yield words


def _is_content_word(token: str) -> bool:
    is_word = token.isalnum() and 1 < len(token) <= MAX_WORD
    return is_word and token not in stop_words() and not _NUMBER.fullmatch(token)


def _bounded(texts: Iterable[str]) -> Iterator[str]:
    room = MAX_LENGTH
    for text in islice(texts, MAX_TEXTS):
        kept = normalize("NFC", text[:MAX_TEXT])[:room]
        yield kept
        room -= len(kept)
        if room <= 0:
            return
