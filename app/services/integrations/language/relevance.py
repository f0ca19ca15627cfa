"""How well a sentence answers a question.

A question is its content words, each with a weight, and the kind of fact that it asks for. A sentence is worth the
words that it has itself, those of the heading above it, and in part those of the document's title. It is worth more if
it names its subject early, and if it states a fact of the kind that is asked for, about what the question names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from app.services.integrations.language.questions import Fact, fact_position, words_for
from app.services.integrations.language.sentences import markdown_sentences
from app.services.integrations.language.words import content_words, keys

MAX_LENGTH: Final = 500
"""Characters of a sentence; the rest is cut off."""
HEADING_WEIGHT: Final = 0.8
TITLE_WEIGHT: Final = 0.4
"""What a word of the heading or the title counts for a sentence that does not have it."""
WITHOUT_FACT: Final = 0.6
"""Factor for a sentence that does not state the kind of fact that is asked for."""
FACT_OF_ANOTHER: Final = 0.8
"""Factor for a sentence that states the fact before it names anything that the question names."""
LATE_SUBJECT: Final = 0.15
"""The share that a sentence loses if its first word that the question has is its last one."""
UNASKED_HEADING: Final = 0.85
"""Factor for a sentence under a heading about something that the question does not name."""
LENGTH: Final = 40
"""A sentence of this many words counts half: it has many words by chance."""


@dataclass(frozen=True)
class Statement:
    """A sentence of a document, with the words above it."""

    text: str
    heading: frozenset[str]
    title: frozenset[str]
    opens_section: bool = False
    """Whether it is the first one under its heading."""
    continues: bool = False
    """Whether it follows another one in the same paragraph."""

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The keys of its own content words, in order."""
        return tuple(word.key for word in content_words(self.text))

    @cached_property
    def all_words(self) -> frozenset[str]:
        """The keys of its own words and of those above it."""
        return self.heading | self.title | frozenset(self.words)

    def covers(self, needs: Set[str], asked: Fact | None) -> frozenset[str]:
        """Those of the question's words that it has, or that its fact stands for."""
        implied = words_for(asked) if asked and fact_position(self.text, asked) is not None else frozenset[str]()
        return frozenset(needs & (self.all_words | implied))


def statements(text: str, *, title: str) -> list[Statement]:
    """The sentences of a document's text, without those that only repeat its title."""
    titled = keys(title)
    found = (
        Statement(_cut(sentence.text), keys(sentence.heading), titled, sentence.opens_section, sentence.continues)
        for sentence in markdown_sentences(text)
    )
    return [statement for statement in found if not titled.issuperset(statement.words)]


def worth(statement: Statement, needs: Set[str], weights: Mapping[str, float], asked: Fact | None) -> float:
    """What a sentence is worth for those words of the question that are in `needs`; at most their weight.

    `weights` has all words of the question.
    """
    own = needs & frozenset(statement.words)
    heading = (needs & statement.heading) - own
    title = (needs & statement.title) - own - heading
    value = _sum(own, weights) + HEADING_WEIGHT * _sum(heading, weights) + TITLE_WEIGHT * _sum(title, weights)
    if own:
        first = min(place for place, word in enumerate(statement.words) if word in own)
        value *= 1 - LATE_SUBJECT * first / len(statement.words)
    if asked:
        value = _with_fact(statement, value, needs, weights, asked)
    if statement.heading and not statement.heading & weights.keys():
        value *= UNASKED_HEADING
    return value / (1 + len(statement.words) / LENGTH)


def _with_fact(statement: Statement, value: float, needs: Set[str], weights: Mapping[str, float], asked: Fact) -> float:
    position = fact_position(statement.text, asked)
    if position is None:
        return value * WITHOUT_FACT
    implied = (needs & words_for(asked)) - frozenset(statement.words)
    subjects = keys(statement.text[:position]) | statement.heading
    return (value + _sum(implied, weights)) * (1 if subjects & weights.keys() else FACT_OF_ANOTHER)


def _sum(words: Iterable[str], weights: Mapping[str, float]) -> float:
    return sum(weights.get(word, 0.0) for word in words)


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= MAX_LENGTH else sentence[: MAX_LENGTH - 1].rstrip() + "…"
