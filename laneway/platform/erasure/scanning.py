"""Reads the rows of a table that are about a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import JSON, ColumnElement, LargeBinary, Text, cast, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from laneway.platform.db.models.sealed import SealedJson, SealedText
from laneway.platform.erasure.subject import Subject
from laneway.platform.payload_store import STORED
from laneway.platform.sealing import SEALED, opened_if_possible

BATCH: Final = 200
"""Rows that are in memory at once."""


def rows_about(
    session: Session,
    subject: Subject,
    columns: Sequence[InstrumentedAttribute[Any]],
    *,
    returning: Sequence[InstrumentedAttribute[Any]],
) -> Iterator[Any]:
    """Yield the values `returning` of each row of which one of the columns is about the person.

    The database selects candidates by text; the subject then decides about the values themselves. Values that are
    encrypted, and payloads in the storage, are all candidates: they are read first. Raises StorageUnavailable.
    """
    statement = select(*returning, *columns)
    fragments = subject.fragments
    if fragments is not None:
        statement = statement.where(or_(*(_may_hold(column, fragments) for column in columns)))
    for row in session.execute(statement.execution_options(yield_per=BATCH)):
        values = zip(columns, row[len(returning) :], strict=True)
        if subject.owns(*({column.key: opened_if_possible(value)} for column, value in values)):
            yield row[: len(returning)]


def _may_hold(column: InstrumentedAttribute[Any], fragments: Sequence[str]) -> ColumnElement[bool]:
    if isinstance(column.type, LargeBinary):
        return column.is_not(None)
    text = func.lower(cast(column, Text))
    sealed = (
        [text.contains(SEALED), text.contains(STORED)]
        if isinstance(column.type, JSON | SealedJson | SealedText)
        else []
    )
    return or_(*sealed, *(text.contains(fragment, autoescape=True) for fragment in fragments))
