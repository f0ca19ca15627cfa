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
    """Seconds by which each clock is ahead of this machine's; None: it is not known, or there is none.

    `workers`: that of one whose report comes from the future is known to be ahead; the others count as right.
    """

    server: float | None = None
    database: float | None = None
    workers: Mapping[str, float] = field(default_factory=dict[str, float])


def server(facts: ClockFacts) -> Outcome | None:
    return None if facts.server is None else _judge("The clock of the server", facts.server)


def database(facts: ClockFacts) -> Outcome | None:
    return None if facts.database is None else _judge("The clock of the database", facts.database)


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
    Check("server", server),
    Check("database", database),
    Check("workers", workers),
)
