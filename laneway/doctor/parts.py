"""Collects the facts of all areas at once, each within a time limit, and judges them by the rules."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from laneway.doctor import clock_rules
from laneway.doctor.clock_rules import ClockFacts
from laneway.doctor.findings import Check, Diagnosis, Outcome, Result, Unchecked, error, run_checks

REACHABLE: Final = "reachable"
"""The name of the check that an area can be asked at all."""
SECONDS: Final = 15.0
"""The time limit of each area."""


@dataclass(frozen=True, slots=True)
class Part:
    """One area: how its facts are collected, and which rules judge them.

    `explain`: what an error of `collect` means; None: it was not expected.
    """

    area: str
    collect: Callable[[], Any]
    checks: Callable[[Any], Iterable[Check[Any]]]
    explain: Callable[[Exception], Outcome | None] = lambda _: None


class _Collecting:
    """One part that collects its facts in a thread of its own, which does not keep the process from ending."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.facts: Any = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"laneway-doctor-{part.area}", daemon=True)
        self._thread.start()

    def wait(self, until: float) -> bool:
        """Whether it has ended in time."""
        self._thread.join(max(0.0, until - monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.facts = self.part.collect()
        except Exception as problem:  # noqa: BLE001 - the report names it
            self.error = problem


def examine(parts: Sequence[Part], *, seconds: float = SECONDS) -> Diagnosis:
    """Collect and judge all parts at once. A part that cannot be reached is a finding, and hides no other."""
    until = monotonic() + seconds
    running = [_Collecting(part) for part in parts]
    results: list[Result] = []
    known: list[Any] = []
    for each in running:
        part = each.part
        if not each.wait(until):
            results.append(Result(part.area, REACHABLE, _too_slow(part.area, seconds)))
        elif each.error is not None:
            results.append(Result(part.area, REACHABLE, _explain(part, each.error)))
        else:
            known.append(each.facts)
            results += run_checks(part.area, part.checks(each.facts), each.facts)
    results += run_checks(clock_rules.AREA, clock_rules.CHECKS, _clocks(known))
    return Diagnosis(results)


def _explain(part: Part, problem: Exception) -> Outcome:
    told = part.explain(problem)
    return told or Unchecked(f"{type(problem).__name__}: {problem}", failed=True)


def _too_slow(area: str, seconds: float) -> Outcome:
    return error(
        f"The {area} did not answer within {seconds:g} s.",
        why="Whatever stops this program stops the others, too.",
        do="Look whether its server runs, is not frozen, and can be reached from here.",
    )


def _clocks(known: Sequence[Any]) -> ClockFacts:
    """The clocks, from what the other parts have seen."""
    offsets = {type(facts).__name__: getattr(facts, "clock_offset", None) for facts in known}
    workers: dict[str, float] = {}
    for facts in known:
        for worker in getattr(facts, "workers", ()):
            if worker.silent_seconds < 0:  # it has reported in the future
                workers[worker.name] = -worker.silent_seconds
            elif worker.alive:
                workers.setdefault(worker.name, 0.0)
    return ClockFacts(server=offsets.get("ServerFacts"), database=offsets.get("DatabaseFacts"), workers=workers)
