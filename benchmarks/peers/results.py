"""The figures of a run: medians with minimum and maximum, how many times better ours are, and JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rich.table import Table

LESS_IS_BETTER = {"W3", "W5", "CPU", "p50", "p99"}

Ratios: TypeAlias = dict[str, dict[str, float]]
"""Peer -> workload with our set-up -> how many times better ours is; below 1 it is worse."""


@dataclass
class Results:
    """The figures of each row (a library, or one of its set-ups) and workload, one for each round."""

    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict[str, dict[str, list[float]]])
    more: dict[str, dict[str, list[float]]] = field(default_factory=dict[str, dict[str, list[float]]])
    """What belongs to a figure, such as the p95 of W3."""

    def add(self, row: str, workload: str, value: float, more: Mapping[str, float] | None = None) -> None:
        """Add the figure of one round."""
        self.rows.setdefault(row, {}).setdefault(workload, []).append(value)
        for name, number in (more or {}).items():
            self.more.setdefault(row, {}).setdefault(f"{workload} {name}", []).append(number)

    def median(self, row: str, workload: str) -> float | None:
        """The median of the rounds; None if nothing was measured."""
        values = self.rows.get(row, {}).get(workload)
        return statistics.median(values) if values else None

    def factor(self, workload: str, own: str, other: str) -> float | None:
        """How many times better one row is than another, by medians: below 1 it is worse."""
        first, second = self.median(own, workload), self.median(other, workload)
        if not first or not second:
            return None
        return second / first if workload in LESS_IS_BETTER else first / second

    def of(self, library: str) -> list[str]:
        """The rows of a library."""
        return [row for row in self.rows if row == library or row.startswith(f"{library} ")]

    def best(self, library: str, workload: str) -> str | None:
        """The row of a library with the best median; None if it has none."""
        rows = [row for row in self.of(library) if self.median(row, workload) is not None]
        choose = min if workload in LESS_IS_BETTER else max
        return choose(rows, key=lambda row: self.median(row, workload) or 0.0) if rows else None

    def ratios(self, ours: str, peers: Iterable[str], workloads: Iterable[str]) -> Ratios:
        """How many times better each of our rows is than the best row of each peer."""
        columns = [(workload, row) for workload in workloads for row in self.of(ours) if self.rows[row].get(workload)]
        found: Ratios = {}
        for peer in peers:
            for workload, row in columns:
                best = self.best(peer, workload)
                factor = self.factor(workload, row, best) if best else None
                if factor is not None:
                    name = f"{workload} {row.removeprefix(ours).strip()}".strip()
                    found.setdefault(peer, {})[name] = factor
        return found

    def figures_table(self, units: Mapping[str, str]) -> Table:
        """Medians, each with the smallest and the largest of the rounds below it."""
        table = Table("", *(f"{name}\n{unit}" for name, unit in units.items()), box=None)
        for row, by_workload in self.rows.items():
            table.add_row(row, *(cell(by_workload.get(name, [])) for name in units))
        return table

    def to_json(self, about: Mapping[str, Any], ratios: Ratios) -> str:
        """All figures of all rounds, and the ratios of the medians."""
        whole = {"about": about, "figures": self.rows, "more": self.more, "ratios": ratios}
        return json.dumps(whole, indent=2) + "\n"


def ratios_table(ours: str, ratios: Ratios) -> Table:
    """How many times better ours are than a peer's best, one column for each of our set-ups."""
    columns = list(dict.fromkeys(column for factors in ratios.values() for column in factors))
    table = Table(f"{ours}\nto", *(column.replace(" ", "\n", 1) for column in columns), box=None)
    for peer, factors in ratios.items():
        table.add_row(peer, *(f"{factors[column]:.2f}" if column in factors else "" for column in columns))
    return table


def cell(values: list[float]) -> str:
    """A median, and the smallest and the largest value."""
    if not values:
        return ""
    texts = [number(value) for value in (statistics.median(values), min(values), max(values))]
    return texts[0] if len(values) == 1 else "{} ({}-{})".format(*texts)


def number(value: float) -> str:
    """Three figures that tell something: 0.52, 12.4, 3,121."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
