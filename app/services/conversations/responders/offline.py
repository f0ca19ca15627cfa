"""Replies without a network: the best sentences of the documents, word for word, with their sources.

1. `selection.py` selects at most three sentences; a single one is followed by the next of its paragraph.
2. If too little of the question is covered, the reply says that it found no answer, and what it looked for. If some of
   it is not covered, the reply names the words that occur nowhere.
3. A message that asks nothing, such as a greeting or thanks, is answered by what the conversation and the documents
   give: the customer's last question, and the titles of documents.

Apart from those statements, which are English, every word comes from the documents.
"""

from __future__ import annotations

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
from app.services.integrations.language.words import Word, content_words

MAX_LISTED_WORDS: Final = 8
MAX_TOPICS: Final = 5


class OfflineResponder:
    """Replies from the passages alone."""

    name = "offline"

    def reply(
        self,
        question: str,
        *,
        history: Sequence[Turn],
        passages: Sequence[SourcePassage],
        topics: Sequence[str] = (),
    ) -> Reply:
        """Reply with the best sentences, or that there is no answer, or what there is to ask.

        The history does not change an answer: guessing what "it" refers to would invent content.
        """
        selection = select_sentences(question, passages)
        if not selection.words:
            return self._plain_reply(_invitation(history, topics))
        if not selection.answers:
            return self._plain_reply(_no_answer(selection.words) + _about(topics))
        return self._quoting_reply("", selection)

    def follow_up(
        self,
        *,
        history: Sequence[Turn],
        passages: Sequence[SourcePassage],
        reason: Reason,
        topics: Sequence[str] = (),
    ) -> Reply:
        """Answer an open question; otherwise return to the last one with sentences that were not quoted yet."""
        question = last_question(history)
        if question is None:
            return self._plain_reply(_invitation(history, topics))
        if history[-1].role == CUSTOMER:
            reply = self.reply(question, history=history[:-1], passages=passages, topics=topics)
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


def _invitation(history: Sequence[Turn], topics: Sequence[str]) -> str:
    """The reply to a message that asks nothing."""
    asked = (turn.text for turn in reversed(history) if turn.role == CUSTOMER and content_words(turn.text, limit=1))
    question = next(asked, None)
    opening = f"Is anything about “{_shortened(question)}” still open?" if question else "What would you like to know?"
    return opening + _about(topics)


def _about(topics: Sequence[str]) -> str:
    titles = "; ".join(filter(None, (_shortened(topic) for topic in topics[:MAX_TOPICS])))
    return f" I can answer from these documents: {titles}." if titles else ""


def _no_answer(words: Sequence[Word]) -> str:
    looked_for = _listed([word.text for word in words])
    return f"I could not find an answer in the documents that I have. I looked for: {looked_for}."


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
