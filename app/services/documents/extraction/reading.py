"""What the readers have in common: what they are given, what they give back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from app.services.documents.extraction.errors import TextTooLarge, megabytes

Tell = Callable[[float, str], None]
"""Told how far the reading is (0 to 100), and what it does."""

UNPACKED: Final = 2
"""A Word document may unpack to so many times the largest file."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one document may take: bytes, pages, seconds of CPU."""

    file_bytes: int
    text_bytes: int
    pages: int
    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be read."""

    name: str
    file: BinaryIO
    limits: Limits
    tell: Tell


@dataclass(slots=True)
class Text:
    """The text of a document as far as it has been read; Raises TextTooLarge while it grows."""

    source: Source
    title: str = ""
    pages: int | None = None
    parts: list[str] = field(default_factory=list[str])
    size: int = 0

    def add(self, part: str) -> None:
        """One part more, a paragraph of its own. Raises TextTooLarge."""
        self.size += len(part.encode("utf-8", "replace"))
        if self.size > self.source.limits.text_bytes:
            raise TextTooLarge(self.source.name, f"at most {megabytes(self.source.limits.text_bytes)}")
        self.parts.append(part)

    def whole(self) -> str:
        """All of it."""
        return "\n\n".join(self.parts)
