"""The questions of `questions.yaml`, and what is right for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("questions.yaml")


@dataclass(frozen=True, slots=True)
class Question:
    """One question; `answer` has words of the right passage for each document that answers."""

    text: str
    purpose: str
    """`choose` or `check`."""
    kind: str
    answer: dict[str, list[str]]

    def is_in(self, document_id: str, text: str) -> bool:
        """Whether a passage of this document answers the question."""
        plain = " ".join(text.split())
        return any(words in plain for words in self.answer.get(document_id, []))

    def is_answered_by(self, text: str) -> bool:
        """Whether a reply has the words of an answer."""
        plain = " ".join(text.split())
        return any(words in plain for answers in self.answer.values() for words in answers)


def read_questions() -> list[Question]:
    """Every question of the file."""
    content: dict[str, dict[str, list[dict[str, Any]]]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return [
        Question(entry["question"], purpose, kind, _answers(entry.get("answer", {})))
        for purpose, kinds in content.items()
        for kind, entries in kinds.items()
        for entry in entries
    ]


def _answers(answer: dict[str, str | list[str]]) -> dict[str, list[str]]:
    return {document: [words] if isinstance(words, str) else words for document, words in answer.items()}
