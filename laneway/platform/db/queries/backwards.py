"""Reads a table from its newest row back, within a limit of time, however rare the rows are that a filter selects.

Rows are read in the order of their numbers, in parts that grow. No index but the primary key is needed, so each filter
may be combined with each other one. What is not found in time is searched by the next call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final, Generic, TypeVar

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

FIRST_PART: Final = 2_000
LARGEST_PART: Final = 64_000
"""Rows of the table that one query looks at."""
SECONDS: Final = 0.12
"""After this time no further part is looked at."""

Row = TypeVar("Row")
ReadPart = Callable[[ColumnElement[bool], int], Sequence[Row]]
"""Returns the selected rows that satisfy a condition on their numbers, newest first, at most so many."""


@dataclass(frozen=True, slots=True)
class Found(Generic[Row]):
    """Rows, newest first. `next`: the `before` with which the search goes on; None: the whole table is searched."""

    rows: list[Row]
    next: int | None


def read_backwards(
    session: Session,
    number: InstrumentedAttribute[int],
    read: ReadPart[Row],
    *,
    number_of: Callable[[Row], int],
    before: int | None,
    limit: int,
    seconds: float = SECONDS,
) -> Found[Row]:
    """The newest of the selected rows whose `number` is less than `before`; at most `limit`.

    `number`: the primary key of the table. `number_of`: its value in a row.
    """
    oldest: int | None = session.scalar(select(func.min(number)))
    newest: int | None = session.scalar(select(func.max(number)))
    top = min(before, newest + 1) if before is not None and newest is not None else (newest or 0) + 1
    deadline, part, found = monotonic() + seconds, FIRST_PART, list[Row]()
    while oldest is not None and top > oldest:
        low = top - part
        found += read(and_(number >= low, number < top), limit - len(found))
        if len(found) == limit:
            return Found(found, number_of(found[-1]))
        top, part = low, min(2 * part, LARGEST_PART)
        if monotonic() >= deadline:
            return Found(found, top if top > oldest else None)
    return Found(found, None)
