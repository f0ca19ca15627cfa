"""Ranks the passages that the index found by their best sentence.

The index knows only which words a passage has, and those may be in sentences about different things. Works on the texts
alone, so the order is nearly the same on both databases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from app.db.queries.passages import FoundPassage
from app.services.integrations.language.questions import Fact
from app.services.integrations.language.relevance import statements, worth

SENTENCE_SHARE: Final = 0.6
"""The part of a score that comes from the best sentence; the rest is the index's own score."""


def ranked(found: Sequence[FoundPassage], weights: Mapping[str, float], *, asked: Fact | None) -> list[FoundPassage]:
    """The passages with new scores (0 to 1), best first; `weights` are those of the question's words, by key."""
    scored = [replace(passage, score=_score(passage, weights, asked)) for passage in found]
    return sorted(scored, key=lambda passage: -passage.score)


def _score(passage: FoundPassage, weights: Mapping[str, float], asked: Fact | None) -> float:
    needs = frozenset(weights)
    found = statements(passage.text, title=passage.title)
    best = max((worth(statement, needs, weights, asked) for statement in found), default=0.0)
    return (1 - SENTENCE_SHARE) * passage.score + SENTENCE_SHARE * min(best, 1.0)
