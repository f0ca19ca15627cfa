"""The seam between conversations and whoever writes the replies.

Every implementation keeps the contract of `tests/contract/test_responders.py`: a reply is never empty, `[1]` in its
text is the first of its sources, and every source is one of the passages that it was given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from app.core.settings import ResponderSettings
from app.schemas.conversation import Source

Reason = Literal["no_reply", "operator"]
"""Why a conversation goes on without a question: the customer has been silent, or an operator asked for it."""

CUSTOMER: Final = "customer"
"""The role of a turn that is the customer's; every other role speaks for us."""

_CITATION = re.compile(r" ?\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the conversation so far."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class SourcePassage:
    """A passage that may answer the question, best first."""

    document_id: str
    title: str
    position: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What to say, what it rests on, who wrote it and what it cost."""

    text: str
    sources: tuple[Source, ...]
    responder: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Responder(Protocol):
    """Writes replies. Raises UpstreamError when a later try may work, UpstreamRefused when it will not."""

    @property
    def name(self) -> str:
        """What is stored with each reply, at most 64 characters."""
        ...

    def reply(self, question: str, *, history: Sequence[Turn], passages: Sequence[SourcePassage]) -> Reply:
        """Answer the customer's question; `history` is what was said before it, oldest first."""
        ...

    def follow_up(self, *, history: Sequence[Turn], passages: Sequence[SourcePassage], reason: Reason) -> Reply:
        """Say the next thing without having been asked; `passages` are about the customer's last words."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


def make_responder(settings: ResponderSettings) -> Responder:
    """The endpoint's responder when one is configured, else the offline one.

    Configured means a model, and a base URL or a key: without a base URL the key is for api.openai.com.
    """
    if settings.model and (settings.base_url or settings.api_key):
        from app.services.conversations.responders.openai import (
            OpenAIResponder,  # slow to import, and not always needed
        )

        return OpenAIResponder(settings)
    from app.services.conversations.responders.offline import OfflineResponder

    return OfflineResponder()


def last_question(history: Sequence[Turn]) -> str | None:
    """The customer's last words."""
    return next((turn.text for turn in reversed(history) if turn.role == CUSTOMER), None)


def renumbered(text: str, *, count: int) -> tuple[str, list[int]]:
    """The text with its citations counted from 1 in the order in which they appear, and the numbers they had.

    Citations of what does not exist (not in 1..count) are taken out.
    """
    order: list[int] = []

    def cited(match: re.Match[str]) -> list[int]:
        numbers = (int(number) for number in re.split(r"[\s,;]+", match[1]))
        return [number for number in dict.fromkeys(numbers) if 1 <= number <= count]

    def replace(match: re.Match[str]) -> str:
        numbers = cited(match)
        order.extend(number for number in numbers if number not in order)
        return match[0][: match[0].index("[")] + "".join(f"[{order.index(number) + 1}]" for number in numbers)

    while any(not cited(match) for match in _CITATION.finditer(text)):  # taking one out may reveal another
        text = _CITATION.sub(lambda match: match[0] if cited(match) else "", text)
    return _CITATION.sub(replace, text).strip(), order


def without_citations(text: str) -> str:
    """A document's own `[3]`, which would be taken for one of ours, as `(3)`."""
    return _CITATION.sub(lambda match: match[0].replace("[", "(").replace("]", ")"), text)
