"""Selects the sentences of passages that answer a question: the best one, then others for what is not covered yet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.services.conversations.responders.base import SourcePassage, without_citations
from app.services.integrations.language.questions import asked_fact
from app.services.integrations.language.relevance import Statement, statements, worth
from app.services.integrations.language.scripts import is_piece
from app.services.integrations.language.words import Word, content_words

MAX_SENTENCES: Final = 3
MAX_PASSAGES: Final = 20
MAX_PASSAGE_LENGTH: Final = 5000
"""Characters of a passage that are read."""
MAX_QUESTION_WORDS: Final = 50
NEEDED_COVERAGE: Final = 0.45
FULL_COVERAGE: Final = 0.65
"""Shares of the question's weight: below the first there is no answer, below the second it is called incomplete."""
UNKNOWN_PIECE: Final = 0.4
"""The weight of a piece of a text without spaces that no sentence has: it may be no word at all."""
MIN_FURTHER_WORTH: Final = 0.5
"""A further sentence must be worth more than this share of the first one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be part of the answer, and the passage that has it."""

    statement: Statement
    passage: SourcePassage

    @property
    def text(self) -> str:
        """The sentence."""
        return self.statement.text


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected sentences, the question's words, and the share of their weight that the sentences cover."""

    chosen: list[Candidate]
    words: list[Word]
    coverage: float
    unknown_words: list[str]
    """Words of the question that no passage has."""

    @property
    def answers(self) -> bool:
        """Whether the sentences cover enough of the question to be an answer."""
        return bool(self.chosen) and self.coverage >= NEEDED_COVERAGE


def select_sentences(question: str, passages: Iterable[SourcePassage], *, already_sent: str = "") -> Selection:
    """Select the sentences that answer the question best, without those in `already_sent`."""
    words = content_words(question, limit=MAX_QUESTION_WORDS)
    candidates = [item for item in _candidates(passages) if not already_sent or item.text not in already_sent]
    known = frozenset[str]().union(*(item.statement.all_words for item in candidates))
    weights = _weights(words, candidates)
    chosen, uncovered = _choose(candidates, weights, question)
    if len(chosen) == 1:
        chosen += _continuation(chosen[0], candidates)
    missing = sum(weights[word] for word in uncovered)
    coverage = 1 - missing / (sum(weights.values()) or 1)
    return Selection(chosen, words, coverage, [word.text for word in words if word.key not in known])


def _choose(
    candidates: Sequence[Candidate], weights: Mapping[str, float], question: str
) -> tuple[list[Candidate], frozenset[str]]:
    """The best sentences, and the words of the question that none of them covers."""
    asked, uncovered = asked_fact(question), frozenset(weights)
    left, chosen = list(candidates), list[Candidate]()
    least = 0.0
    while left and len(chosen) < MAX_SENTENCES:
        values = [worth(item.statement, uncovered, weights, asked) for item in left]
        value = max(values)
        if value <= least:
            break
        best = left.pop(values.index(value))
        least = least or value * MIN_FURTHER_WORTH
        chosen.append(best)
        uncovered -= best.statement.covers(uncovered, asked)
    return chosen, uncovered


def _continuation(candidate: Candidate, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The sentence after this one in its paragraph: it often says under which condition the first one holds."""
    following = candidates[candidates.index(candidate) + 1 :][:1]
    return [item for item in following if item.statement.continues and item.passage is candidate.passage]


def _candidates(passages: Iterable[SourcePassage]) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for passage in list(passages)[:MAX_PASSAGES]:
        text = without_citations(passage.text[:MAX_PASSAGE_LENGTH])
        for statement in statements(text, title=passage.title):
            found.setdefault(statement.text, Candidate(statement, passage))
    return list(found.values())


def _weights(words: Sequence[Word], candidates: Sequence[Candidate]) -> dict[str, float]:
    """The weight of each word of the question: the fewer sentences have it, the more."""
    counts = Counter(word for item in candidates for word in item.statement.words)
    return {
        word.key: UNKNOWN_PIECE
        if is_piece(word.text) and not counts[word.key]
        else 1 + math.log((1 + len(candidates)) / (1 + counts[word.key]))
        for word in words
    }
