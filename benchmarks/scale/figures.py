"""A figure with its target, and the table that the benchmark ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. Less is better."""

    name: str
    value: float | None
    """None: it could not be measured, or the engine refuses it; `note` says why."""
    unit: str
    target: float | None = None
    """The most that is good; None: there is no target, the figure is for comparison."""
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.target is None:
            return None
        return self.value is not None and self.value <= self.target

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON."""
        return asdict(self) | {"met": self.is_met}


def show(out: Console, figures: Sequence[Figure]) -> None:
    """Print the table of figures, targets, and whether they are met."""
    table = Table("", "figure", "target", "met", "", box=None, pad_edge=False)
    for column in table.columns[1:3]:
        column.justify = "right"
    verdicts = {True: "yes", False: "no", None: ""}
    for figure in figures:
        value = "-" if figure.value is None else f"{_number(figure.value)} {figure.unit}"
        target = "" if figure.target is None else f"≤ {_number(figure.target)}"
        table.add_row(figure.name, value, target, verdicts[figure.is_met], figure.note)
    out.print(table)
    judged = [figure for figure in figures if figure.is_met is not None]
    out.print(f"\n{sum(bool(figure.is_met) for figure in judged)} of {len(judged)} targets met")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:,.3g}"
