"""Who began and who ended which task: lines in a file, each written at once, which no SIGKILL leaves in part."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

BEGAN: Final = "began"
ENDED: Final = "ended"
READY: Final = "ready"
"""The worker is ready; the entry has no task."""


class Entry(NamedTuple):
    """A task began or ended in a worker. `at`: unix time in seconds."""

    event: str
    number: int
    worker: str
    at: float


class Ledger:
    """The file of one drill."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, number: int, worker: str) -> None:
        """Append an entry."""
        line = f"{event} {number} {worker} {time.time():.6f}\n".encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    def read(self) -> list[Entry]:
        """The entries so far, in the order of their writing."""
        if not self.path.exists():
            return []
        rows = (line.split() for line in self.path.read_text("utf-8").splitlines())
        return [Entry(event, int(number), worker, float(at)) for event, number, worker, at in rows]


def ended(entries: Iterable[Entry]) -> Counter[int]:
    """Number of a task → how often it ended."""
    return Counter(entry.number for entry in entries if entry.event == ENDED)


def open_at(entries: Sequence[Entry], worker: str, moment: float) -> set[int]:
    """The tasks that this worker had begun and not ended at a moment."""
    before = [entry for entry in entries if entry.worker == worker and entry.at <= moment]
    begun = Counter(entry.number for entry in before if entry.event == BEGAN)
    return {number for number, times in begun.items() if times > ended(before)[number]}
