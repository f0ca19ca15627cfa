"""The input and output that all readers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from app.services.documents.extraction.errors import TextTooLarge, megabytes

Report = Callable[[float, str], None]
"""Called with the progress in percent and the current stage."""

UNPACKED_FACTOR: Final = 2
"""A Word document may unpack to this many times the largest file."""
MAX_PROBLEMS, MAX_PROBLEM_LENGTH = 20, 200
"""The most problems of a document that are told, and the most characters of each."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of reading one document; `seconds` is CPU time."""

    file_bytes: int
    text_bytes: int
    pages: int
    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read; `charset` is the encoding that its content type names."""

    name: str
    file: BinaryIO
    limits: Limits
    report: Report
    charset: str | None = None


@dataclass(slots=True)
class Text:
    """The text of a document as far as it has been read, and the problems: what is missing, and why."""

    source: Source
    title: str = ""
    pages: int | None = None
    parts: list[str] = field(default_factory=list[str])
    size: int = 0
    problem_count: int = 0
    _problems: dict[str, None] = field(default_factory=dict[str, None])

    def add(self, part: str) -> None:
        """Add a part as a paragraph of its own. Raises TextTooLarge."""
        self.size += len(part.encode("utf-8", "replace"))
        if self.size > self.source.limits.text_bytes:
            raise TextTooLarge(self.source.name, f"at most {megabytes(self.source.limits.text_bytes)}")
        self.parts.append(part)

    def add_problem(self, problem: str) -> None:
        """Note that a part of the document is missing from the text. Equal problems are told once."""
        told = " ".join(problem.split())[:MAX_PROBLEM_LENGTH]
        if told in self._problems:
            return
        self.problem_count += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems[told] = None

    @property
    def problems(self) -> list[str]:
        """The problems, and how many more there are than are told."""
        more = self.problem_count - len(self._problems)
        return [*self._problems, f"and {more} more problems"] if more > 0 else [*self._problems]

    def whole(self) -> str:
        """The whole text."""
        return "\n\n".join(self.parts)
