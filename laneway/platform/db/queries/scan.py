"""Searches the history from its newest task back, within a limit of time, however rare the tasks are that match.

Rows are read in the order of their numbers, in parts that grow. No index is needed, so each filter may be combined with
each other one, and with a text. What is not found in time is searched by the next call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.search import Filter, page
from laneway.schemas.task import UNFINISHED, TaskState

FIRST_PART: Final = 2_000
LARGEST_PART: Final = 64_000
"""Rows of the history that one query looks at."""
SECONDS: Final = 0.12
"""After this time no further part is looked at."""
RARE: Final = frozenset((*UNFINISHED, TaskState.DEAD_LETTER, TaskState.FAILED))
"""States that an index finds, because few tasks of the history have them."""


@dataclass(frozen=True, slots=True)
class Found:
    """Tasks, newest first. `next`: the `before` with which the search goes on; None: the whole history is searched."""

    runs: Sequence[TaskRun]
    next: int | None


def scan(session: Session, filters: Filter, *, before: int | None, limit: int, seconds: float = SECONDS) -> Found:
    """The newest of the selected tasks that are older than the row `before`; at most `limit`."""
    if _has_index(filters):
        runs = page(session, filters, before=before, limit=limit)
        return Found(runs, runs[-1].seq if len(runs) == limit else None)
    oldest: int | None = session.scalar(select(func.min(TaskRun.seq)))
    newest: int | None = session.scalar(select(func.max(TaskRun.seq)))
    top = min(before, newest + 1) if before is not None and newest is not None else (newest or 0) + 1
    deadline, part, found = monotonic() + seconds, FIRST_PART, list[TaskRun]()
    while oldest is not None and top > oldest:
        low = top - part
        statement = (
            select(TaskRun)
            .with_hint(TaskRun, "NOT INDEXED", "sqlite")  # it would take an index on the state, and sort what it finds
            .where(*filters.clauses(), TaskRun.seq >= low, TaskRun.seq < top)
            .order_by(TaskRun.seq.desc())
            .limit(limit - len(found))
        )
        found += session.scalars(statement)
        if len(found) == limit:
            return Found(found, found[-1].seq)
        top, part = low, min(2 * part, LARGEST_PART)
        if monotonic() >= deadline:
            return Found(found, top if top > oldest else None)
    return Found(found, None)


def _has_index(filters: Filter) -> bool:
    """Whether an index leads to few rows. A text is looked for in all of them, so then it does not help."""
    if filters.text is not None or filters.error is not None:
        return bool(filters.ids or filters.key or filters.group)
    few = bool(filters.states) and RARE.issuperset(filters.states)
    return bool(filters.ids or filters.key or filters.group or filters.tag or few)
