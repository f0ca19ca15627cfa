"""The rules for clocks: that of this machine, of the server, of the database, and of the workers' machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from laneway.doctor.findings import Check, Fine, Outcome, error, warning

AREA: Final = "clocks"
OFF_SECONDS: Final = 1.0
FAR_OFF_SECONDS: Final = 10.0
"""Above the second, tasks are due at the wrong time, and workers are taken for dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFacts:
    """Seconds by which each clock is ahead of this machine's. `workers`: as far as it is known."""

    server: float | None = None
    database: float | None = None
    workers: Mapping[str, float] = field(default_factory=dict[str, float])


def server(facts: ClockFacts) -> Outcome:
    return _judge("The clock of the server", facts.server or 0.0)


def database(facts: ClockFacts) -> Outcome:
    return _judge("The clock of the database", facts.database or 0.0)


def workers(facts: ClockFacts) -> Outcome | None:
    if not facts.workers:
        return None
    name, offset = max(facts.workers.items(), key=lambda item: abs(item[1]))
    return _judge(f"The clock of the worker {name}", offset)


def _judge(whose: str, offset: float) -> Outcome:
    if abs(offset) <= OFF_SECONDS:
        return Fine(f"{whose} agrees with this machine's")
    rule = error if abs(offset) > FAR_OFF_SECONDS else warning
    side = "ahead of" if offset > 0 else "behind"
    return rule(
        f"{whose} is {abs(offset):.1f} s {side} this machine's.",
        why="Due times, expiries, waiting times and reports of workers are measured by several clocks.",
        do="Synchronise the clocks (systemctl enable --now systemd-timesyncd, or chrony) on each machine.",
    )


CHECKS: Final = (
    Check("server", server, ("server",)),
    Check("database", database, ("database",)),
    Check("workers", workers),
)
