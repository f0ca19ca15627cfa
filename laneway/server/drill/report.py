"""What a drill reports, and its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from laneway.schemas.choices import Disturbance
from laneway.server.drill.ledger import BEGAN, Entry, ended

MARGIN: Final = 10.0
"""Seconds beyond a lease that a recovery may take."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was done, and when. `at`: unix time of the disturbance; `until`: of its end, if it lasts.

    `at_risk`: the tasks that ran where it was done, and may run again. `limit`: the most seconds of the recovery.
    """

    did: str
    at: float
    until: float
    at_risk: frozenset[int]
    limit: float


@dataclass(slots=True)
class DrillReport:
    """The result of a drill. Times are seconds."""

    drill: str
    did: str
    broker: str
    submitted: int
    done: int
    lost: list[int]
    duplicated: list[int]
    """Tasks that ended more than once."""
    begun_again: list[int]
    """Tasks that began more than once and ended once: they were interrupted."""
    at_risk: int
    recovery_seconds: float | None
    limit_seconds: float
    seconds: float
    problems: list[str] = field(default_factory=list[str])

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """The verdict, in one sentence."""
        if self.passed:
            return "passed: no task was lost, and none ran twice that was not interrupted."
        return "FAILED: " + "; ".join(self.problems) + "."


def judge(
    drill: Disturbance,
    entries: Sequence[Entry],
    seen: Observation,
    *,
    submitted: int,
    broker: str,
    seconds: float,
) -> DrillReport:
    """Count what became of the tasks, and compare it with what is promised."""
    ends = ended(entries)
    begins = [entry.number for entry in entries if entry.event == BEGAN]
    twice = {number for number in begins if begins.count(number) > 1}
    report = DrillReport(
        drill=drill.value,
        did=seen.did,
        broker=broker,
        submitted=submitted,
        done=len(ends),
        lost=[number for number in range(submitted) if not ends[number]],
        duplicated=sorted(number for number, times in ends.items() if times > 1),
        begun_again=sorted(number for number in twice if ends[number] == 1),
        at_risk=len(seen.at_risk),
        recovery_seconds=_recovery(entries, seen),
        limit_seconds=seen.limit,
        seconds=seconds,
    )
    report.problems += _problems(report, seen)
    return report


def _recovery(entries: Iterable[Entry], seen: Observation) -> float | None:
    """From the disturbance, or its end, until the interrupted tasks have begun again; without any, until any began."""
    later = [entry for entry in entries if entry.event == BEGAN and entry.at > seen.until]
    again = {entry.number: entry.at for entry in reversed(later) if entry.number in seen.at_risk}
    if again:
        return max(again.values()) - seen.until
    return min((entry.at - seen.until for entry in later), default=None)


def _problems(report: DrillReport, seen: Observation) -> Iterable[str]:
    if report.lost:
        yield f"{_tasks(report.lost)} lost"
    unexplained = [number for number in (*report.duplicated, *report.begun_again) if number not in seen.at_risk]
    if unexplained:
        yield f"{_tasks(unexplained)} run again, although nothing had interrupted them"
    if report.recovery_seconds is not None and report.recovery_seconds > seen.limit:
        yield f"the recovery took {report.recovery_seconds:.1f} s, more than {seen.limit:g} s"


def _tasks(numbers: Sequence[int]) -> str:
    return "1 task was" if len(numbers) == 1 else f"{len(numbers)} tasks were"
