"""Replies without a network: the best sentences of the documents, word for word, with their sources.

1. The responder looks for the question's content words (stemmed, without stop words); rare words count more.
2. It repeatedly selects the sentence that covers most of the words not covered yet, at most three sentences. The title
   and the heading above a sentence count for it in part.
3. If less than half of the words are covered, the reply says that it found no answer, and what it looked for. If less
   than two thirds are covered, it names the words that occur nowhere.

Apart from those statements, every word comes from the documents. English only.
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
MAX_PASSAGE_LENGTH = 5000
MAX_QUOTE_LENGTH = 500
MAX_LISTED_WORDS = 8
NEEDED_COVERAGE = 0.5
FULL_COVERAGE = 0.65
MIN_FURTHER_GAIN = 0.5
"""A further sentence must gain more than this share of the first one's gain."""
TITLE_WEIGHT = 0.5
NUMBER_FACTOR = 1.5
"""Factor for a sentence with a number when the question asks "how long" or "how many"."""

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
THANKS_WORDS: Final = frozenset({"thank", "thanks", "thx", "cheers"})
GREETING_WORDS: Final = frozenset({"hi", "hello", "hey", "hallo", "morning", "afternoon", "evening", "greetings"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be part of the answer."""

    text: str
    passage: SourcePassage
    stems: frozenset[str]
    title: frozenset[str]


@dataclass(frozen=True, slots=True)
class SentenceSelection:
    """The selected sentences, the question's words by stem, and the share of them that the sentences cover."""

    chosen: list[Candidate]
    question_words: dict[str, str]
    coverage: float
    unknown_words: list[str]
    """Words of the question that no passage has."""

    @property
    def answers(self) -> bool:
        """Whether the sentences cover enough of the question to be an answer."""
        return bool(self.chosen) and self.coverage >= NEEDED_COVERAGE


class OfflineResponder:
    """Replies from the passages alone."""

    name = "offline"

    def reply(self, question: str, *, history: Sequence[Turn], passages: Sequence[SourcePassage]) -> Reply:
        """Reply with the best sentences, with a courtesy to a greeting or thanks, or that there is no answer."""
        del history  # The history is not used: guessing what "it" refers to would invent content.
        courtesy = _courtesy(question)
        if courtesy:
            return self._plain_reply(courtesy)
        selection = select_sentences(question, passages)
        if not selection.answers:
            return self._plain_reply(_no_answer(selection.question_words))
        return self._quoting_reply("", selection)

    def follow_up(self, *, history: Sequence[Turn], passages: Sequence[SourcePassage], reason: Reason) -> Reply:
        """Answer an open question; otherwise return to the last one with sentences that were not quoted yet."""
        question = last_question(history)
        if question is None:
            return self._plain_reply("Thank you for getting in touch. What would you like to know?")
        if history[-1].role == CUSTOMER:
            reply = self.reply(question, history=history, passages=passages)
            return Reply(f"About your message “{_shortened(question)}”: {reply.text}", reply.sources, self.name)
        opening = {
            "no_reply": f"You wrote “{_shortened(question)}” and we have not heard from you since. "
            "Did that settle it, or is something still open?",
            "operator": f"We are coming back to your message “{_shortened(question)}”. Is something still open?",
        }[reason]
        sent = " ".join(turn.text for turn in history if turn.role != CUSTOMER)
        selection = select_sentences(question, passages, already_sent=sent)
        if selection.answers:
            return self._quoting_reply(f"{opening} This may help as well: ", selection)
        return self._plain_reply(opening)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _plain_reply(self, text: str) -> Reply:
        return Reply(text, (), self.name)

    def _quoting_reply(self, opening: str, selection: SentenceSelection) -> Reply:
        sources: dict[str, Source] = {}
        parts: list[str] = []
        for candidate in selection.chosen:
            passage = candidate.passage
            sources.setdefault(passage.document_id, _source(candidate))
            parts.append(f"{candidate.text} [{list(sources).index(passage.document_id) + 1}]")
        titles = "; ".join(f"[{number}] {_title(source)}" for number, source in enumerate(sources.values(), 1))
        partial = selection.coverage < FULL_COVERAGE and selection.unknown_words
        rest = f"\nI found nothing about: {_listed(selection.unknown_words)}." if partial else ""
        return Reply(f"{opening}{' '.join(parts)}{rest}\n\nSources: {titles}", tuple(sources.values()), self.name)


def select_sentences(question: str, passages: Iterable[SourcePassage], *, already_sent: str = "") -> SentenceSelection:
    """Select the sentences that cover the question best, without those in `already_sent`."""
    words = content_words(question)
    candidates = [item for item in _candidates(passages) if not already_sent or item.text not in already_sent]
    wants_number = asks_for_number(question)
    weights = _weights(words, candidates)
    known = frozenset[str]().union(*(item.stems | item.title for item in candidates))
    uncovered, covered = set(words), set[str]()
    chosen: list[Candidate] = []
    first_gain = 0.0
    while candidates and len(chosen) < MAX_SENTENCES:
        best = max(candidates, key=lambda item: _gain(item, uncovered, weights, wants_number=wants_number))
        gain = _gain(best, uncovered, weights, wants_number=wants_number)
        if gain <= first_gain * MIN_FURTHER_GAIN:
            break
        first_gain = first_gain or gain
        chosen.append(best)
        candidates.remove(best)
        uncovered -= best.stems
        covered |= (best.stems | best.title) & words.keys()
    unknown = [word for stem, word in words.items() if stem not in known]
    return SentenceSelection(chosen, words, len(covered) / max(len(words), 1), unknown)


def _candidates(passages: Iterable[SourcePassage]) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for passage in list(passages)[:MAX_PASSAGES]:
        title = frozenset(content_words(passage.title))
        for heading, sentence in sentences(without_citations(passage.text[:MAX_PASSAGE_LENGTH])):
            text = _cut(sentence)
            stems = frozenset(content_words(text))
            if stems - title:  # A repeated title answers nothing.
                found.setdefault(text, Candidate(text, passage, stems, title | frozenset(content_words(heading))))
    return list(found.values())


def _weights(stems: Iterable[str], candidates: list[Candidate]) -> dict[str, float]:
    counts = Counter(stem for item in candidates for stem in item.stems)
    return {stem: 1 + math.log((1 + len(candidates)) / (1 + counts[stem])) for stem in stems}


def _gain(item: Candidate, uncovered: set[str], weights: dict[str, float], *, wants_number: bool) -> float:
    by_sentence = sum(weights[stem] for stem in uncovered & item.stems)
    by_title = sum(weights[stem] for stem in (uncovered & item.title) - item.stems)
    factor = NUMBER_FACTOR if wants_number and has_number(item.text) else 1
    # A long sentence covers many words by chance, so its gain is reduced.
    return factor * (by_sentence + TITLE_WEIGHT * by_title) / (1 + len(item.stems) / 50)


def _courtesy(text: str) -> str | None:
    words = set(all_words(text))
    if not words or not words <= GREETINGS | THANKS:
        return None
    if words & THANKS_WORDS:
        return "You are welcome. Is there anything else that you would like to know?"
    return "Hello! What would you like to know?" if words & GREETING_WORDS else None


def _no_answer(words: dict[str, str]) -> str:
    if not words:
        return "I could not tell what to look for in your message. Could you say it in other words?"
    return f"I could not find an answer in the documents that I have. I looked for: {_listed(list(words.values()))}."


def _source(candidate: Candidate) -> Source:
    passage = candidate.passage
    return Source(document_id=passage.document_id, title=passage.title, position=passage.position, quote=candidate.text)


def _title(source: Source) -> str:
    return _shortened(source.title) or _shortened(source.document_id)


def _listed(words: list[str]) -> str:
    more = len(words) - MAX_LISTED_WORDS
    return ", ".join(words[:MAX_LISTED_WORDS]) + (f" and {more} more" if more > 0 else "")


def _shortened(text: str) -> str:
    plain = " ".join(without_citations(text).split())
    return plain if len(plain) <= 120 else plain[:117].rstrip() + "…"


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= MAX_QUOTE_LENGTH else sentence[: MAX_QUOTE_LENGTH - 1].rstrip() + "…"
