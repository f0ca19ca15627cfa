"""The sentiment of an English text, from the words of `sentiment.txt`.

Each word of the list has a strength. A negation before it turns the word around and weakens it, an adverb strengthens
or weakens it, capitals and exclamation marks strengthen it. What follows "but" counts more than what precedes it. The
sum is brought between -1 and 1, so that one strong word is enough for a clear result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, Literal
from unicodedata import normalize

from app.services.integrations.language.words import MAX_TEXT, stem

Label = Literal["positive", "neutral", "negative"]

THRESHOLD: Final = 0.05
"""A score from this up is positive, a score from minus this down is negative."""
WORDS: Final = Path(__file__).with_name("sentiment.txt")

SATURATION: Final = 12
"""The larger, the more words it takes to come near -1 or 1."""
NEGATED: Final = -0.75
REACH: Final = 3
"""Words after a negation or adverb that it changes."""
EMPHASIS: Final = 1.25
"""Factor of capitals in a text that has others, and of an exclamation mark."""
BEFORE_BUT: Final = 0.5
AFTER_BUT: Final = 1.5

STRONGER: Final = 1.3
WEAKER: Final = 0.6
WEAK: Final = 2
"""A word below this strength says nothing in a question: "Is it safe?"."""

_NEGATION: Final = re.compile(
    r"no|not|never|nobody|none|nor|neither|nothing|nowhere|without|cannot|hardly|scarcely|barely|rarely|seldom|"
    r"(?:is|are|was|were|do|does|did|wo|would|ca|could|should|has|have|had|ai)n'?t"
)
_STRONGER: Final = re.compile(
    r"very|really|so|too|such|extremely|absolutely|totally|completely|incredibly|highly|especially|particularly|truly|"
    r"deeply|most|more|quite|super|utterly"
)
_WEAKER: Final = re.compile(r"slightly|somewhat|bit|little|fairly|rather|partly|kinda|almost|less")
_NO_LIKING: Final = re.compile(r"would|\w+'d|looks?|looked|sounds?|feels?|something")
"""After these "like" says no liking: "I would like to", "it looks like"."""
_TOKEN: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[.!?,;:…]+(?=\s|$)|\S")
_CLAUSE_END: Final = re.compile(r"[.!?;…]+")


def sentiment(text: str) -> float:
    """How a text sounds: from -1 (negative) to 1 (positive), 0 for neutral."""
    text = normalize("NFC", text[:MAX_TEXT]).replace("’", "'")
    total = sum(_emoticons(text))
    has_small_letters = any(character.islower() for character in text)
    for clause in _clauses(text):
        values = list(_values(clause, capitals_matter=has_small_letters))
        total += _around_but(clause, values)
    return max(-1.0, min(1.0, total / (total * total + SATURATION) ** 0.5))


def label(score: float) -> Label:
    """The name of a score: positive from 0.05 up, negative from -0.05 down, neutral between."""
    if score >= THRESHOLD:
        return "positive"
    return "negative" if score <= -THRESHOLD else "neutral"


def _clauses(text: str) -> Iterator[list[str]]:
    """The words of each sentence, the mark that ends it last."""
    clause: list[str] = []
    for match in _TOKEN.finditer(text):
        clause.append(match.group())
        if _CLAUSE_END.fullmatch(match.group()):
            yield clause
            clause = []
    yield clause


def _values(clause: Sequence[str], *, capitals_matter: bool) -> Iterator[float]:
    """The strength of each word in its surroundings."""
    asks, exclaims = bool(clause) and "?" in clause[-1], bool(clause) and "!" in clause[-1]
    words = [word.lower() for word in clause]
    for place, word in enumerate(words):
        strength: float = strength_of(word)
        before = words[max(0, place - REACH) : place]
        if not strength or (asks and abs(strength) < WEAK) or _says_no_liking(word, before):
            yield 0.0
            continue
        if capitals_matter and len(word) > 1 and clause[place].isupper():
            strength *= EMPHASIS
        yield strength * (EMPHASIS if exclaims else 1) * _changed_by(before)


def _says_no_liking(word: str, before: Sequence[str]) -> bool:
    return word == "like" and bool(before) and _NO_LIKING.fullmatch(before[-1]) is not None


def _changed_by(before: Sequence[str]) -> float:
    """The factor of a word after these words."""
    factor = 1.0
    for word in before:
        if _NEGATION.fullmatch(word):
            factor *= NEGATED
        elif _STRONGER.fullmatch(word):
            factor *= STRONGER
        elif _WEAKER.fullmatch(word):
            factor *= WEAKER
    return factor


def _around_but(clause: Sequence[str], values: Sequence[float]) -> float:
    """The sum of a sentence: the part after its last "but" is what the writer means."""
    buts = [place for place, word in enumerate(clause) if word.lower() in {"but", "however"}]
    if not buts:
        return sum(values)
    return BEFORE_BUT * sum(values[: buts[-1]]) + AFTER_BUT * sum(values[buts[-1] :])


def _emoticons(text: str) -> Iterator[int]:
    for mark, strength in _list()[1].items():
        yield strength * min(text.count(mark), 3)


@lru_cache(maxsize=20_000)
def strength_of(word: str) -> int:
    """The strength of a word in lower case; 0 if it is not in the list."""
    if not word.isalpha():
        return 0
    words = _list()[0]
    return words.get(f"{word}=") or words.get(stem(word), 0)


@cache
def _list() -> tuple[dict[str, int], dict[str, int]]:
    """The words by their stems, and the emoticons, each with its strength; read once."""
    words: dict[str, int] = {}
    marks: dict[str, int] = {}
    for line in WORDS.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        strength, *members = line.split()
        for member in members:
            if member.removesuffix("=").isalpha():
                words.setdefault(member if member.endswith("=") else stem(member), int(strength))
            else:
                marks[member] = int(strength)
    return words, marks
