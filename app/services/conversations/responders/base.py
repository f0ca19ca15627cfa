"""The interface of responders, and the functions that its implementations share.

`tests/app/services/conversations/test_responders.py` checks one contract for every implementation: a reply is never
empty, `[1]` in its text is the first of its sources, and every source is one of the given passages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from app.schemas.conversation import Source

Reason = Literal["no_reply", "operator"]
"""Why a conversation continues without a question: the customer is silent, or an operator requested it."""

CUSTOMER: Final = "customer"
"""The role of the customer's turns; all other turns are replies."""

_CITATION = re.compile(r" ?\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier turn of the conversation."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class SourcePassage:
    """A passage that may answer the question; `score` is 0 to 1, higher is better."""

    document_id: str
    title: str
    position: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its text, its sources, the responder that wrote it, and the tokens that it used."""

    text: str
    sources: tuple[Source, ...]
    responder: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Responder(Protocol):
    """Writes replies. Raises UpstreamError if a retry may succeed, UpstreamRefused if it cannot."""

    @property
    def name(self) -> str:
        """The name that is stored with each reply, at most 64 characters."""
        ...

    def reply(
        self,
        question: str,
        *,
        history: Sequence[Turn],
        passages: Sequence[SourcePassage],
        topics: Sequence[str] = (),
    ) -> Reply:
        """Answer the customer's message; `history` has earlier turns, oldest first; `passages` are best first.

        `topics` are titles of documents, given if no passage was found.
        """
        ...

    def follow_up(
        self,
        *,
        history: Sequence[Turn],
        passages: Sequence[SourcePassage],
        reason: Reason,
        topics: Sequence[str] = (),
    ) -> Reply:
        """Write the next message without a new question; `passages` match the customer's last message."""
        ...

    def close(self) -> None:
        """Close the responder's connections."""
        ...


def last_question(history: Sequence[Turn]) -> str | None:
    """The customer's last message."""
    return next((turn.text for turn in reversed(history) if turn.role == CUSTOMER), None)


def renumber_citations(text: str, *, count: int) -> tuple[str, list[int]]:
    """Renumber the citations of a text from 1 in their order of appearance; returns the text and the old numbers.

    Citations outside 1..count are removed.
    """
    order: list[int] = []

    def cited(match: re.Match[str]) -> list[int]:
        numbers = (int(number) for number in re.split(r"[\s,;]+", match[1]))
        return [number for number in dict.fromkeys(numbers) if 1 <= number <= count]

    def replace(match: re.Match[str]) -> str:
        numbers = cited(match)
        order.extend(number for number in numbers if number not in order)
        return match[0][: match[0].index("[")] + "".join(f"[{order.index(number) + 1}]" for number in numbers)

    while any(not cited(match) for match in _CITATION.finditer(text)):  # Removing a citation may create another one.
        text = _CITATION.sub(lambda match: match[0] if cited(match) else "", text)
    return _CITATION.sub(replace, text).strip(), order


def without_citations(text: str) -> str:
    """Replace a document's own `[3]` by `(3)`, so that it is not read as one of our citations."""
    return _CITATION.sub(lambda match: match[0].replace("[", "(").replace("]", ")"), text)
