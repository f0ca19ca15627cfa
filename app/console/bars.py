"""Draws the days of a report as bars: for each day one bar for each series, to scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 1000
"""Units of a drawing. It is scaled to the page."""
HEIGHT: Final = 160
"""Units of the highest bar."""
SHARE: Final = 0.8
"""The share of a day's width that its bars have."""
WIDEST: Final = 60
"""Units of a day's bars together, however few days there are."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure of one day; the upper left corner of its bar."""

    series: str
    x: float
    y: float
    width: float
    height: float
    title: str


def bars(days: Sequence[tuple[str, Mapping[str, int]]]) -> list[Bar]:
    """The bars of days, each with the same series."""
    most = max((figure for _, figures in days for figure in figures.values()), default=0)
    if not most:
        return []
    found, step = list[Bar](), WIDTH / len(days)
    for number, (day, figures) in enumerate(days):
        together = min(WIDEST, step * SHARE)
        width = together / len(figures)
        for place, (series, figure) in enumerate(figures.items()):
            height = figure / most * HEIGHT
            x = number * step + (step - together) / 2 + place * width
            title = f"{day}: {figure} {series}"
            found.append(Bar(series, round(x, 2), round(HEIGHT - height, 2), round(width, 2), round(height, 2), title))
    return found
