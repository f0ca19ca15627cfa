"""Bulk actions: apply one action to many rows and report the rows that refused it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from laneway.platform.db.models import OutboundDelivery, TaskRun
from laneway.platform.errors import PlatformError

Row = TypeVar("Row", bound=TaskRun | OutboundDelivery)
Action = Callable[[Iterable[TaskRun]], tuple[int, dict[str, str]]]
"""Changes tasks; returns how many, and id → reason for those that it refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult(Generic[Row]):
    """What a bulk action did, or would do in a dry run."""

    matched: int
    """Rows that the filter matches."""
    done: int
    """Rows on which the action succeeded; 0 in a dry run."""
    samples: list[Row]
    """A few of the matching rows."""
    refused: dict[str, str]
    """Id → the reason why nothing was done."""
    dry_run: bool
    next: int | None = None
    """Where the next call continues; None: nothing is left."""


def in_pages(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """The rows in lists of this length; the last one may be shorter."""
    left = iter(rows)
    while page := list(islice(left, size)):
        yield page


def apply_to_each(rows: Iterable[Row], action: Callable[[Row], object]) -> tuple[int, dict[str, str]]:
    """Apply the action to each row; return how many succeeded, and id → reason for those that raised PlatformError."""
    done, refused = 0, dict[str, str]()
    for row in rows:
        try:
            action(row)
            done += 1
        except PlatformError as error:
            refused[row.id] = str(error)
    return done, refused
