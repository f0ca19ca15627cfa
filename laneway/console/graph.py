"""Draws the steps of a workflow as a graph, from left to right: each step stands behind those that it comes after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from laneway.platform.workflows.plan import Plan
from laneway.schemas.workflow import Condition

WIDTH: Final = 184
"""Units of a step's box. A unit is a pixel."""
HEIGHT: Final = 46
ACROSS: Final = 60
"""Units between two columns."""
BETWEEN: Final = 22
"""Units between two rows."""
EDGE: Final = 14
"""Units around the graph."""
ARC: Final = 34
"""Units by which a line that leads back goes below the boxes."""
MOST_BENDS: Final = 400
"""With more bends than this, long lines are drawn straight, behind the boxes between their ends."""


class Link(NamedTuple):
    """One step leads to another one."""

    source: str
    target: str
    kind: str
    """The outcome that leads there: `ok`, `failed` or `any`; `loop`: the way back."""


@dataclass(frozen=True, slots=True)
class Box:
    """A step, with the upper left corner of its box."""

    step: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Line:
    """A link, as the `d` of an SVG path."""

    link: Link
    path: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A whole graph."""

    width: int
    height: int
    boxes: Sequence[Box]
    lines: Sequence[Line]


def drawing(plan: Plan) -> Drawing:
    """The graph of a plan."""
    columns = columns_of(plan)
    forward = [*_forward(plan)]
    placed = {step: number for number, column in enumerate(columns) for step in column}
    bends = _bends(forward, placed)
    cells = _cells(columns, forward, bends)
    most = max(map(len, cells))
    boxes = {step: box for number, column in enumerate(cells) for step, box in _boxes(column, number, most)}
    lines = [Line(link, _forward_path(link, boxes, bends.get((link.source, link.target), ()))) for link in forward]
    back = [Line(link, _back_path(boxes[link.source], boxes[link.target])) for link in _back(plan)]
    below = ARC if back else 0
    return Drawing(
        width=2 * EDGE + len(cells) * (WIDTH + ACROSS) - ACROSS,
        height=2 * EDGE + most * (HEIGHT + BETWEEN) - BETWEEN + below,
        boxes=[boxes[step] for column in columns for step in column],
        lines=[*lines, *back],
    )


def columns_of(plan: Plan) -> list[list[str]]:
    """The steps by column. A step stands in the first column behind all those that it comes after.

    A detour step stands in the column of the step whose loop leads to it, or in front of it.
    """
    place: dict[str, int] = {}
    for name in plan.order:
        place[name] = max((place[before] + 1 for before in plan.steps[name].predecessors), default=0)
    for loop in plan.loops.values():
        for number, name in enumerate(loop.detour):
            place[name] = max(0, place[loop.origin] - number)
    columns: list[list[str]] = [[] for _ in range(max(place.values()) + 1)]
    for name, number in place.items():
        columns[number].append(name)
    return columns


def _forward(plan: Plan) -> Iterator[Link]:
    for name in plan.order:
        step = plan.steps[name]
        yield from (Link(before, name, step.condition(before).value) for before in step.predecessors)


def _back(plan: Plan) -> Iterator[Link]:
    for loop in plan.loops.values():
        way = (loop.origin, *loop.detour, loop.back_to)
        yield from (Link(source, target, "loop") for source, target in pairwise(way))


def _bends(links: Sequence[Link], placed: Mapping[str, int]) -> dict[tuple[str, str], list[str]]:
    """Link → a name for each column that it crosses. A line gets a row of its own there, and crosses no box."""
    crossed = {(link.source, link.target): range(placed[link.source] + 1, placed[link.target]) for link in links}
    if sum(map(len, crossed.values())) > MOST_BENDS:
        return {}
    return {ends: [f"{ends[0]} {ends[1]} {number}" for number in numbers] for ends, numbers in crossed.items()}


def _cells(
    columns: Sequence[Sequence[str]], links: Sequence[Link], bends: Mapping[tuple[str, str], Sequence[str]]
) -> list[list[str]]:
    """The columns with the bends, each sorted by the middle of what leads to its cells, so that few lines cross."""
    cells = [list(column) for column in columns]
    before: dict[str, list[str]] = {}
    for link in links:
        way = [link.source, *bends.get((link.source, link.target), ()), link.target]
        for source, target in pairwise(way):
            before.setdefault(target, []).append(source)
        for bend in way[1:-1]:
            cells[int(bend.rsplit(" ", 1)[1])].append(bend)
    row: dict[str, float] = {}
    for column in cells:
        middle = {cell: _middle([row[each] for each in before.get(cell, ()) if each in row]) for cell in column}
        column.sort(key=middle.__getitem__)
        row |= {cell: number - (len(column) - 1) / 2 for number, cell in enumerate(column)}
    return cells


def _middle(rows: Sequence[float]) -> float:
    return sum(rows) / len(rows) if rows else float("inf")


def _boxes(column: Sequence[str], number: int, most: int) -> Iterator[tuple[str, Box]]:
    """The cells of a column with their places; the column stands in the middle of the height."""
    top = EDGE + (most - len(column)) * (HEIGHT + BETWEEN) // 2
    for row, cell in enumerate(column):
        yield cell, Box(cell, EDGE + number * (WIDTH + ACROSS), top + row * (HEIGHT + BETWEEN))


def _forward_path(link: Link, boxes: Mapping[str, Box], bends: Sequence[str]) -> str:
    """From the right side of a box to the left side of another one, through the bends."""
    source, target = boxes[link.source], boxes[link.target]
    x, y = source.x + WIDTH, source.y + HEIGHT // 2
    parts = [f"M{x} {y}"]
    for box in (*(boxes[bend] for bend in bends), target):
        to_y, half = box.y + HEIGHT // 2, (box.x - x) // 2
        parts.append(f"C{x + half} {y} {box.x - half} {to_y} {box.x} {to_y}")
        x, y = box.x, to_y
        if box is not target:
            x += WIDTH
            parts.append(f"H{x}")
    return " ".join(parts)


def _back_path(source: Box, target: Box) -> str:
    """From the lower side of a box to the lower side of another one, below them.

    In one column, downwards at the right and upwards at the left.
    """
    if source.x == target.x and source.y < target.y:
        x, out = source.x + WIDTH, source.x + WIDTH + ARC
        return f"M{x} {source.y + HEIGHT - 8} C{out} {source.y + HEIGHT} {out} {target.y} {x} {target.y + 8}"
    if source.x == target.x and source.y > target.y:
        x, out = source.x, source.x - EDGE
        return f"M{x} {source.y + 8} C{out} {source.y} {out} {target.y + HEIGHT} {x} {target.y + HEIGHT - 8}"
    start, end, deep = source.x + WIDTH * 2 // 3, target.x + WIDTH // 3, max(source.y, target.y) + HEIGHT + ARC
    return f"M{start} {source.y + HEIGHT} C{start} {deep} {end} {deep} {end} {target.y + HEIGHT}"


def condition_of(link: Link) -> str:
    """What leads along a link, for people to read."""
    return {
        Condition.FAILED.value: f"{link.target} runs if {link.source} failed",
        Condition.ANY.value: f"{link.target} runs after {link.source}, whatever its outcome",
        "loop": f"the loop leads from {link.source} to {link.target}",
    }.get(link.kind, f"{link.target} runs after {link.source}")
