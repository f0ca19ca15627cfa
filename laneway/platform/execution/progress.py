"""Which progress reports of an attempt are recorded: a task may report as often as it likes.

A report is recorded when the last one is 0.25 s old. The first reports with a new message are recorded at once, because
a message names a stage, and a stage may be short, or may be the long one that follows several short ones. A report that
is not recorded waits for the next one, or for the end of the attempt: so the last report of an attempt is never lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

PROGRESS_SECONDS: Final = 0.25
"""Seconds in which one report may be recorded."""
BURST: Final = 20
"""Most reports with a new message that are recorded at once; one more for each `PROGRESS_SECONDS`."""


@dataclass(slots=True)
class ProgressReports:
    """The reports of one attempt."""

    percent: int = 0
    waiting: dict[str, Any] | None = None
    """The last report, if it is not recorded."""
    _message: str | None = None
    _recorded_at: float = 0.0
    _burst: float = BURST

    def add(self, percent: float, message: str | None, counters: dict[str, float]) -> dict[str, Any] | None:
        """Take a report; returns what to record now, or None. The percentage never goes down."""
        self.percent = max(self.percent, min(100, int(percent)))
        report = {"percent": self.percent, "message": message, **({"counters": counters} if counters else {})}
        now = monotonic()
        passed = (now - self._recorded_at) / PROGRESS_SECONDS
        allowed = min(float(BURST), self._burst + passed)
        is_stage = message != self._message and allowed >= 1
        if self.percent < 100 and passed < 1 and not is_stage:
            self.waiting = report
            return None
        self.waiting, self._message, self._recorded_at, self._burst = None, message, now, allowed - 1
        return report

    def take_waiting(self) -> dict[str, Any] | None:
        """Return the report that waits, once."""
        waiting, self.waiting = self.waiting, None
        return waiting
