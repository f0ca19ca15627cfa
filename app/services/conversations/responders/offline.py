"""Replies without a network: the best sentences of the documents, word for word, with their sources.

1. The responder looks for the question's content words (stemmed, without stop words); rare words count more.
2. It repeatedly selects the sentence that covers most of the words not covered yet, at most three sentences. The title
   and the heading above a sentence count for it in part.
3. If less than half of the words are covered, the reply says that it found no answer, and what it looked for. If less
   than two thirds are covered, it names the words that occur nowhere.

Apart from those statements, every word comes from the documents. English only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
from app.services.conversations.responders.selection import FULL_COVERAGE, Candidate, Selection, select_sentences
from app.services.integrations.language.words import Word

MAX_LISTED_WORDS: Final = 8

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
            return self._plain_reply(_no_answer(selection.words))
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

    def _quoting_reply(self, opening: str, selection: Selection) -> Reply:
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


def _courtesy(text: str) -> str | None:
    words = set(re.findall(r'[a-z]+',text.lower()))
    if not words or not words <= GREETINGS | THANKS:
        return None
    if words & THANKS_WORDS:
        return "You are welcome. Is there anything else that you would like to know?"
    return "Hello! What would you like to know?" if words & GREETING_WORDS else None


def _no_answer(words: Sequence[Word]) -> str:
    if not words:
        return "I could not tell what to look for in your message. Could you say it in other words?"
    return f"I could not find an answer in the documents that I have. I looked for: {_listed([word.text for word in words])}."


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

