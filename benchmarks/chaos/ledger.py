"""The independent ledger: append-only files in which producers and tasks record what they did.

It uses no broker, no result store and no lock. A record is one line of 256 bytes, written with one O_APPEND call. 256
divides the page size, so a SIGKILL during the call leaves no partial record. Times are CLOCK_MONOTONIC, which all
processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

RECORD = 256
OFFERED, ACCEPTED, REFUSED = "offered", "accepted", "refused"
BEGAN, ENDED, HUNG = "began", "ended", "hung"


class Paths(Protocol):
    """The files of a ledger."""

    @property
    def accepted_log(self) -> Path:
        """The records of the producers."""
        ...

    @property
    def executed_log(self) -> Path:
        """The records of the tasks."""
        ...


class Ledger:
    """Writes one file of the ledger. Forked processes and threads may share it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, mark: str, *rest: str | float | None) -> float:
        """Write one record, and return its time."""
        now = time.monotonic()
        line = json.dumps([event, mark, round(now, 6), *rest], separators=(",", ":")).encode()
        if len(line) >= RECORD:
            raise ValueError(f"a record of {len(line)} bytes is too long for the ledger")
        os.write(self._file, line.ljust(RECORD - 1) + b"\n")
        return now


@dataclass(slots=True)
class Offer:
    """A task that a producer offered. `accepted_at`: when publish returned; None: it did not return."""

    mark: str
    at: float
    task_id: str
    kind: str
    key: str | None
    place: int
    countdown: float
    accepted_at: float | None = None
    refused: str = ""

    @property
    def due(self) -> float:
        """When the task may start."""
        return self.at + self.countdown


@dataclass(slots=True, eq=False)
class Run:
    """One execution of a task's body by one process.

    The judge sets two times. `died`: when the process was killed before the body ended. `acked`: the latest time at
    which the ack of a body that ended may have been sent.
    """

    mark: str
    worker: str
    pid: int
    began: float
    ended: float | None = None
    died: float | None = None
    acked: float | None = None


@dataclass(slots=True)
class LedgerRecords:
    """All records read so far, by mark (the ledger's own name of a task)."""

    offers: dict[str, Offer] = field(default_factory=dict[str, Offer])
    marks: dict[str, str] = field(default_factory=dict[str, str])
    """Task id → mark."""
    runs: dict[str, list[Run]] = field(default_factory=dict[str, list[Run]])
    running: dict[tuple[str, int, str], Run] = field(default_factory=dict[tuple[str, int, str], Run])
    """(worker, pid, nonce) → a run that has begun and not ended."""
    accepted: int = 0
    open: dict[str, Offer] = field(default_factory=dict[str, Offer])
    """The accepted tasks that are not executed to the end."""
    ended: set[str] = field(default_factory=set[str])
    hung: list[str] = field(default_factory=list[str])
    """The marks of the tasks whose forked child did not end."""
    last_began: dict[str, float] = field(default_factory=dict[str, float])

    def waiting(self) -> int:
        """The number of accepted tasks that are not executed to the end."""
        return len(self.open)

    def waiting_since(self, due: float) -> int:
        """The number of these that became due after this time."""
        return sum(offer.due > due for offer in self.open.values())

    def add_offer(self, record: list[Any]) -> None:
        """Add one record of a producer."""
        event, mark, at, *rest = record
        if event == OFFERED:
            offer = self.offers[mark] = Offer(mark, at, *rest)
            self.marks[offer.task_id] = mark
        elif event == ACCEPTED:
            offer = self.offers[mark]
            offer.accepted_at = at
            self.accepted += 1
            if mark not in self.ended:
                self.open[mark] = offer
        else:
            self.offers[mark].refused = rest[0]

    def add_run(self, record: list[Any]) -> None:
        """Add one record of a task."""
        event, mark, at, worker, pid, nonce = record
        if event == BEGAN:
            run = self.running[worker, pid, nonce] = Run(mark, worker, pid, at)
            self.runs.setdefault(mark, []).append(run)
            self.last_began[worker] = at
        elif event == HUNG:
            self.hung.append(mark)
        else:
            self.running.pop((worker, pid, nonce)).ended = at
            self.ended.add(mark)
            self.open.pop(mark, None)


class LedgerReader:
    """Reads the ledger while it grows."""

    def __init__(self, paths: Paths) -> None:
        self.records = LedgerRecords()
        self._accepted, self._executed = _Tail(paths.accepted_log), _Tail(paths.executed_log)

    def refresh(self) -> LedgerRecords:
        """Read the new records, and return all records."""
        # The records of tasks come first: each task that they name was offered before.
        executed = list(self._executed.records())
        for record in self._accepted.records():
            self.records.add_offer(record)
        for record in executed:
            self.records.add_run(record)
        return self.records


class _Tail:
    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def records(self) -> Iterator[list[Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while len(line := file.read(RECORD)) == RECORD:
                self._offset += RECORD
                yield json.loads(line)
