"""Replies without any network: the sentences that answer best, word for word, with the documents they are from.

1. The question's content words (no stop words, stemmed) are what is looked for; rare ones count more.
2. Sentence by sentence the one is taken that says most of what is still unsaid, three at most; the title and heading
   that a sentence stands under help it.
3. When less than half of the words are covered, the reply says that it found no answer, and what it looked for; when
   less than two thirds are, it names the words that occur nowhere.

Nothing is made up: apart from those statements every word is the documents'. English only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.schemas.conversation import Source
from app.services.conversations.responders.base import (
    CUSTOMER,
    Reason,
    Reply,
    SourcePassage,
    Turn,
    last_question,
    without_citations,
)
from app.services.conversations.responders.words import all_words, asks_for_number, content_words, has_number, sentences

MAX_SENTENCES = 3
MAX_PASSAGES = 20
MAX_PASSAGE = 5000
MAX_QUOTE = 500
MAX_NAMED = 8
NEEDED_COVERAGE = 0.5
FULL_COVERAGE = 0.65
WORTH_ADDING = 0.5
"""A further sentence must gain at least this share of what the first one did."""
TITLE_WEIGHT = 0.5
NUMBER_FACTOR = 1.5
"""How much better a sentence with a number answers "how long" or "how many"."""

GREETINGS: Final = frozenset(
    {
        "hi",
        "hello",
        "hey",
        "hallo",
        "good",
        "morning",
        "afternoon",
        "evening",
        "day",
        "there",
        "greetings",
    }
)
THANKS: Final = frozenset(
    {
        "thank",
        "thanks",
        "thx",
        "cheers",
        "you",
        "so",
        "very",
        "much",
        "many",
        "a",
        "lot",
        "great",
        "perfect",
        "ok",
        "okay",
    }
)
SAYS_THANKS: Final = frozenset({"thank", "thanks", "thx", "cheers"})
SAYS_HELLO: Final = frozenset({"hi", "hello", "hey", "hallo", "morning", "afternoon", "evening", "greetings"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be part of the answer."""

    text: str
    passage: SourcePassage
    stems: frozenset[str]
    title: frozenset[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """The sentences that were chosen, what was asked (by stem), and how much of it they cover."""

    chosen: list[Candidate]
    asked: dict[str, str]
    coverage: float
    unknown: list[str]
    """Words that none of the passages has."""

    @property
    def good(self) -> bool:
        """Whether enough of the question is covered to call it an answer."""
        return bool(self.chosen) and self.coverage >= NEEDED_COVERAGE


class OfflineResponder:
    """Answers from the passages alone."""

    name = "offline"

    def reply(self, question: str, *, history: Sequence[Turn], passages: Sequence[SourcePassage]) -> Reply:
        """The best sentences, a plain courtesy for a plain courtesy, or a statement that there is no answer."""
        del history  # a question is answered as it stands: guessing what "it" means would be making things up
        courtesy = _courtesy(question)
        if courtesy:
            return self._said(courtesy)
        answer = find_answer(question, passages)
        if not answer.good:
            return self._said(_no_answer(answer.asked))
        return self._quoting("", answer)

    def follow_up(self, *, history: Sequence[Turn], passages: Sequence[SourcePassage], reason: Reason) -> Reply:
        """An open question is answered; otherwise the last one is taken up again, with what was not yet said of it."""
        question = last_question(history)
        if question is None:
            return self._said("Thank you for getting in touch. What would you like to know?")
        if history[-1].role == CUSTOMER:
            answered = self.reply(question, history=history, passages=passages)
            return Reply(f"About your message “{_short(question)}”: {answered.text}", answered.sources, self.name)
        opening = {
            "no_reply": f"You wrote “{_short(question)}” and we have not heard from you since. "
            "Did that settle it, or is something still open?",
            "operator": f"We are coming back to your message “{_short(question)}”. Is something still open?",
        }[reason]
        said = " ".join(turn.text for turn in history if turn.role != CUSTOMER)
        more = find_answer(question, passages, known=said)
        return self._quoting(f"{opening} This may help as well: ", more) if more.good else self._said(opening)

    def close(self) -> None:
        """There is nothing to give back."""

    def _said(self, text: str) -> Reply:
        return Reply(text, (), self.name)

    def _quoting(self, opening: str, answer: Answer) -> Reply:
        sources: dict[str, Source] = {}
        parts: list[str] = []
        for candidate in answer.chosen:
            passage = candidate.passage
            sources.setdefault(passage.document_id, _source(candidate))
            parts.append(f"{candidate.text} [{list(sources).index(passage.document_id) + 1}]")
        titles = "; ".join(f"[{number}] {_title(source)}" for number, source in enumerate(sources.values(), 1))
        partial = answer.coverage < FULL_COVERAGE and answer.unknown
        rest = f"\nI found nothing about: {_named(answer.unknown)}." if partial else ""
        return Reply(f"{opening}{' '.join(parts)}{rest}\n\nSources: {titles}", tuple(sources.values()), self.name)


def find_answer(question: str, passages: Iterable[SourcePassage], *, known: str = "") -> Answer:
    """Choose the sentences that cover the question; those that `known` already holds are left out."""
    asked = content_words(question)
    candidates = [item for item in _candidates(passages) if not known or item.text not in known]
    wants_number = asks_for_number(question)
    weights = _weights(asked, candidates)
    seen = frozenset[str]().union(*(item.stems | item.title for item in candidates))
    unsaid, covered = set(asked), set[str]()
    chosen: list[Candidate] = []
    first_gain = 0.0
    while candidates and len(chosen) < MAX_SENTENCES:
        best = max(candidates, key=lambda item: _gain(item, unsaid, weights, wants_number=wants_number))
        gain = _gain(best, unsaid, weights, wants_number=wants_number)
        if gain <= first_gain * WORTH_ADDING:
            break
        first_gain = first_gain or gain
        chosen.append(best)
        candidates.remove(best)
        unsaid -= best.stems
        covered |= (best.stems | best.title) & asked.keys()
    unknown = [word for stem, word in asked.items() if stem not in seen]
    return Answer(chosen, asked, len(covered) / max(len(asked), 1), unknown)


def _candidates(passages: Iterable[SourcePassage]) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for passage in list(passages)[:MAX_PASSAGES]:
        title = frozenset(content_words(passage.title))
        for heading, sentence in sentences(without_citations(passage.text[:MAX_PASSAGE])):
            text = _cut(sentence)
            stems = frozenset(content_words(text))
            if stems - title:  # a repeated title answers nothing
                found.setdefault(text, Candidate(text, passage, stems, title | frozenset(content_words(heading))))
    return list(found.values())


def _weights(asked: Iterable[str], candidates: list[Candidate]) -> dict[str, float]:
    counts = Counter(stem for item in candidates for stem in item.stems)
    return {stem: 1 + math.log((1 + len(candidates)) / (1 + counts[stem])) for stem in asked}


def _gain(item: Candidate, unsaid: set[str], weights: dict[str, float], *, wants_number: bool) -> float:
    own = sum(weights[stem] for stem in unsaid & item.stems)
    by_title = sum(weights[stem] for stem in (unsaid & item.title) - item.stems)
    fitting = NUMBER_FACTOR if wants_number and has_number(item.text) else 1
    # A sentence of a hundred words covers much by chance, so it has to cover more.
    return fitting * (own + TITLE_WEIGHT * by_title) / (1 + len(item.stems) / 50)


def _courtesy(text: str) -> str | None:
    words = set(all_words(text))
    if not words or not words <= GREETINGS | THANKS:
        return None
    if words & SAYS_THANKS:
        return "You are welcome. Is there anything else that you would like to know?"
    return "Hello! What would you like to know?" if words & SAYS_HELLO else None


def _no_answer(asked: dict[str, str]) -> str:
    if not asked:
        return "I could not tell what to look for in your message. Could you say it in other words?"
    return f"I could not find an answer in the documents that I have. I looked for: {_named(list(asked.values()))}."


def _source(candidate: Candidate) -> Source:
    passage = candidate.passage
    return Source(document_id=passage.document_id, title=passage.title, position=passage.position, quote=candidate.text)


def _title(source: Source) -> str:
    return _short(source.title) or _short(source.document_id)


def _named(words: list[str]) -> str:
    more = len(words) - MAX_NAMED
    return ", ".join(words[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _short(text: str) -> str:
    plain = " ".join(without_citations(text).split())
    return plain if len(plain) <= 120 else plain[:117].rstrip() + "…"


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= MAX_QUOTE else sentence[: MAX_QUOTE - 1].rstrip() + "…"
