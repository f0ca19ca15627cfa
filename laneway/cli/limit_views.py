"""The table of the limits that tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.cli import times
from laneway.cli.tables import Cell, Grid, ident, number, text, when

if TYPE_CHECKING:
    from laneway.schemas.limit import NamedLimitView


def limit_table(limits: Sequence[NamedLimitView]) -> Grid:
    """Limits, one per line."""
    table = Grid(ident("limit"), "rate", "running", number("waiting"), "set by", "state", text("tasks"))
    for each in limits:
        table.add(
            each.name,
            _rate(each),
            _running(each),
            "-" if each.waiting is None else str(each.waiting),
            each.source.value,
            _state(each),
            ", ".join(each.tasks) or "-",
        )
    return table


def _rate(limit: NamedLimitView) -> str:
    if limit.rate is None:
        return ""
    burst = f", {limit.burst} at once" if limit.burst > 1 else ""
    return f"{limit.rate} in {times.written(limit.per_seconds)}{burst}"


def _running(limit: NamedLimitView) -> str:
    running = "?" if limit.running is None else str(limit.running)
    return running if limit.max_running is None else f"{running} of {limit.max_running}"


def _state(limit: NamedLimitView) -> Cell:
    if limit.blocked_until is not None:
        return Cell(f"closed until {when(limit.blocked_until).text}", "yellow")
    if limit.in_force is False:
        return Cell("not in force yet", "yellow")
    return Cell("open" if limit.in_force else "unknown")
