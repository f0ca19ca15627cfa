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
    answer: dict[str, str]

    def is_in(self, document_id: str, text: str) -> bool:
        """Whether a passage of this document answers the question."""
        words = self.answer.get(document_id)
        return words is not None and words in " ".join(text.split())

    def is_answered_by(self, text: str) -> bool:
        """Whether a reply has the words of an answer."""
        plain = " ".join(text.split())
        return any(words in plain for words in self.answer.values())


def read_questions() -> list[Question]:
    """Every question of the file."""
    content: dict[str, dict[str, list[dict[str, Any]]]] = yaml.safe_load(FILE.read_text())
    return [
        Question(entry["question"], purpose, kind, entry.get("answer", {}))
        for purpose, kinds in content.items()
        for kind, entries in kinds.items()
        for entry in entries
    ]
