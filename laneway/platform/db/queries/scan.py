"""Searches the history from its newest task back, within a limit of time, however rare the tasks are that match."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Final

from sqlalchemy import ColumnElement, and_, case, literal, select
from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.backwards import SECONDS, Found, read_backwards
from laneway.platform.db.queries.search import Filter, page
from laneway.schemas.task import UNFINISHED, TaskState

RARE: Final = frozenset((*UNFINISHED, TaskState.DEAD_LETTER, TaskState.FAILED))
"""States that an index finds, because few tasks of the history have them."""


def scan(
    session: Session, filters: Filter, *, before: int | None, limit: int, seconds: float = SECONDS
) -> Found[TaskRun]:
    """The newest of the selected tasks that are older than the row `before`; at most `limit`."""
    if _has_index(filters):
        runs = list(page(session, filters, before=before, limit=limit))
        return Found(runs, runs[-1].seq if len(runs) == limit else None)
    return read_backwards(
        session,
        TaskRun.seq,
        partial(_part, session, filters),
        number_of=attrgetter("seq"),
        before=before,
        limit=limit,
        seconds=seconds,
    )


def _part(session: Session, filters: Filter, within: ColumnElement[bool], limit: int) -> Sequence[TaskRun]:
    statement = select(TaskRun).where(*_without_index(filters.clauses()), within)
    return session.scalars(statement.order_by(TaskRun.seq.desc()).limit(limit)).all()


def _without_index(clauses: Sequence[ColumnElement[bool]]) -> list[ColumnElement[bool]]:
    """The conditions in a form that uses no index: SQLite would take that of a state, and sort all that it finds."""
    return [case((and_(*clauses), literal(1)), else_=literal(0)) == 1] if clauses else []


def _has_index(filters: Filter) -> bool:
    """Whether an index leads to few rows. A text is looked for in all of them, so then it does not help."""
    if filters.text is not None or filters.error is not None:
        return bool(filters.ids or filters.key or filters.group)
    few = bool(filters.states) and RARE.issuperset(filters.states)
    return bool(filters.ids or filters.key or filters.group or filters.tag or few)
