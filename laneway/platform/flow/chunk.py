"""What a chunk task declares: how many tasks its function handles at once, and how long a worker waits for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from laneway.platform.errors import ConfigError

MOST: Final = 1_000
LONGEST: Final = 600.0


class BadChunk(ConfigError):
    """The chunks of a task are declared in a way that cannot work."""

    template = "A chunk cannot be declared: {problem}"
    problem: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A task that a worker runs many of at once: `@task(chunk=Chunk(size=100, seconds=2))`.

    `size`: the most tasks that the function gets, 2 to 1,000. `seconds`: how long the first one waits for others, more
    than 0 and at most 600. `by`: a field of the payload; only tasks with the same value of it are in one chunk.
    Raises BadChunk.
    """

    size: int
    seconds: float
    by: str | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.size <= MOST:
            raise BadChunk(f"size={self.size!r} must be 2 to {MOST:,}.")
        if not 0 < self.seconds <= LONGEST:
            raise BadChunk(f"seconds={self.seconds!r} must be more than 0, and at most {LONGEST:g}.")


def chunk_note(chunk: dict[str, Any] | None) -> str:
    """What the event of an attempt's start says of its chunk: `id` and `size`. Empty for an attempt alone."""
    return json.dumps({"chunk": chunk}) if chunk else ""


def chunk_of_note(note: str) -> dict[str, Any]:
    """The chunk in such a note, as data of the event."""
    try:
        known: Any = json.loads(note or "{}")
    except ValueError:
        return {}
    return {"chunk": known["chunk"]} if isinstance(known, dict) and "chunk" in known else {}
