"""Content words, sentiment and key phrases of English text.

All work is bounded, and the same text always gives the same result. The libraries are imported at their first use: NLTK
alone takes longer to import than the rest of a worker.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import islice
from typing import Final, Literal
from unicodedata import normalize

Label = Literal["positive", "neutral", "negative"]

THRESHOLD: Final = 0.05
"""A score from this up is positive, a score from minus this down is negative: the limits of VADER's authors."""
MAX_TEXT: Final = 20_000
"""Characters of one text that are analysed."""
MAX_TEXTS: Final = 500
"""Number of texts that key phrases come from."""
MAX_PHRASE_TEXT: Final = 100_000
"""Characters of all those texts together."""
MAX_WORD: Final = 64
"""The most characters of a word. Longer runs of letters are hashes, keys or noise."""
MAX_PHRASE_WORDS: Final = 3

_KEPT_WORDS: Final = frozenset(
    {
        "bill",
        "buy",
        "buying",
        "changes",
        "close",
        "computer",
        "copy",
        "cry",
        "date",
        "detail",
        "early",
        "fire",
        "fix",
        "free",
        "goods",
        "half",
        "home",
        "keys",
        "length",
        "member",
        "members",
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
        "problem",
        "problems",
        "room",
        "rooms",
        "site",
        "system",
        "test",
        "website",
        "width",
    }
)
"""Words of the library's stop word list that matter in customers' questions: "Where is my order?"."""

_WORD: Final = re.compile(r"[^\W_]+")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])\s+|[\r\n]+")


def content_words(text: str, *, limit: int = 50) -> list[str]:
    """The first `limit` distinct words that are no stop words, in lower case, of letters and digits only."""
    stop = stop_words()
    words = (match.group().lower() for match in _WORD.finditer(_normalized(text)))
    content = (word for word in words if word not in stop and len(word) <= MAX_WORD)
    return list(islice(dict.fromkeys(content), limit))


@cache
def stop_words() -> frozenset[str]:
    """English stop words, including the pieces that an apostrophe leaves."""
    from stop_words import get_stop_words

    words = [word.lower() for word in get_stop_words("en")]
    pieces = [piece for word in words for piece in _WORD.findall(word)]
    return frozenset([*words, *pieces]) - _KEPT_WORDS


def sentiment(text: str) -> float:
    """VADER's compound score of a text: -1 (negative) to 1 (positive), 0 for neutral."""
    return _vader()(_normalized(text))


def label(score: float) -> Label:
    """The name of a score: positive from 0.05 up, negative from -0.05 down, neutral between."""
    if score >= THRESHOLD:
        return "positive"
    return "negative" if score <= -THRESHOLD else "neutral"


def key_phrases(texts: Iterable[str], *, limit: int = 10) -> list[str]:
    """The best phrases of at most three words, best first (RAKE, ranked by word degree)."""
    sentences = [sentence for text in _bounded(texts) for sentence in _sentences(text)]
    best: dict[str, float] = {}
    for score, phrase in _rake(sentences):
        best[phrase] = max(score, best.get(phrase, 0))
    return sorted(best, key=lambda phrase: (-best[phrase], phrase))[:limit]


def _bounded(texts: Iterable[str]) -> list[str]:
    room, kept = MAX_PHRASE_TEXT, list[str]()
    for text in islice(texts, MAX_TEXTS):
        kept.append(_normalized(text)[:room])
        room -= len(kept[-1])
        if room <= 0:
            break
    return kept


def _normalized(text: str) -> str:
    return normalize("NFC", text[:MAX_TEXT]).replace("’", "'")


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


@cache
def _vader() -> Callable[[str], float]:
    """VADER's scoring function; its lexicon is read once."""
    from vaderSentiment import vaderSentiment

    analyser = vaderSentiment.SentimentIntensityAnalyzer()

    def score(text: str) -> float:
        return max(-1.0, min(1.0, analyser.polarity_scores(text)["compound"]))

    return score


def _rake(sentences: Sequence[str]) -> list[tuple[float, str]]:
    """(score, phrase) by RAKE. A new extractor each time, because it stores its results in itself."""
    from rake_nltk import Metric, Rake

    rake = Rake(
        stopwords=set(stop_words()),
        max_length=MAX_PHRASE_WORDS,
        ranking_metric=Metric.WORD_DEGREE,
        sentence_tokenizer=_sentences,
        word_tokenizer=_words,
    )
    rake.extract_keywords_from_sentences(list(sentences))
    return rake.get_ranked_phrases_with_scores()


def _words(sentence: str) -> list[str]:
    """Words and phrase breaks: everything that is not a word ends a phrase, as do bare numbers and single letters."""
    from nltk.tokenize import wordpunct_tokenize

    return [token if _is_word(token) else "." for token in wordpunct_tokenize(sentence)]


def _is_word(token: str) -> bool:
    return token.isalnum() and 1 < len(token) <= MAX_WORD and not token.isdecimal()
