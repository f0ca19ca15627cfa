"""Counts what some work costs, in numbers that do not depend on the machine or on what else it does."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from types import FrameType
from typing import Any

import redis


@dataclass(frozen=True)
class Counts:
    """What one job costs."""

    trips: float = 0
    """What the server reads: about one for each round trip."""
    commands: float = 0
    """What the server executes, in scripts, too."""
    bytes: float = 0
    """What goes to the server and comes back."""
    calls: float = 0
    """Calls of Python functions in the thread that does the work."""
    statements: float = 0
    """SQL statements, and commits."""

    def above(self, most: Counts) -> dict[str, float]:
        """What is more than it may be."""
        return {
            field.name: round(getattr(self, field.name), 2)
            for field in fields(self)
            if getattr(self, field.name) > getattr(most, field.name)
        }


class Counter:
    """Counts in this thread and on a server that nobody else uses: between `start` and `stop`."""

    def __init__(self, port: int) -> None:
        client: Any = redis.Redis
        self._client = client(port=port)
        self._before: dict[str, int] = {}
        self._calls = self._statements = 0
        self._read()  # connects
        self.start()
        self._own = self._difference()

    def start(self) -> None:
        """Begin at nothing."""
        self._calls = self._statements = 0
        self._before = self._read()
        sys.setprofile(self._note)

    def stop(self, jobs: int) -> Counts:
        """Returns what each of so many jobs has cost."""
        sys.setprofile(None)
        calls, found = self._calls, self._difference()
        own = self._own
        trips, commands, size = ((found[name] - own[name]) / jobs for name in found)
        return Counts(trips, commands, size, calls / jobs, self._statements / jobs)

    def statement(self, *_: Any) -> None:
        """A listener of SQLAlchemy's events."""
        self._statements += 1

    def close(self) -> None:
        """Close its connection."""
        sys.setprofile(None)
        self._client.close()

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        del frame
        if event == "call":
            self._calls += 1

    def _difference(self) -> dict[str, int]:
        sys.setprofile(None)
        after = self._read()
        return {name: after[name] - self._before[name] for name in after}

    def _read(self) -> dict[str, int]:
        stats: dict[str, int] = self._client.info("stats")
        return {
            "trips": stats["total_reads_processed"],
            "commands": stats["total_commands_processed"],
            "bytes": stats["total_net_input_bytes"] + stats["total_net_output_bytes"],
        }
