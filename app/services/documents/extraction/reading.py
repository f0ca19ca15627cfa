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
    """A file to read."""

    name: str
    file: BinaryIO
    limits: Limits
    report: Report


@dataclass(slots=True)
class Text:
    """The text of a document as far as it has been read."""

    source: Source
    title: str = ""
    pages: int | None = None
    parts: list[str] = field(default_factory=list[str])
    size: int = 0

    def add(self, part: str) -> None:
        """Add a part as a paragraph of its own. Raises TextTooLarge."""
        self.size += len(part.encode("utf-8", "replace"))
        if self.size > self.source.limits.text_bytes:
            raise TextTooLarge(self.source.name, f"at most {megabytes(self.source.limits.text_bytes)}")
        self.parts.append(part)

    def whole(self) -> str:
        """The whole text."""
        return "\n\n".join(self.parts)
