"""Times that callers write."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator

EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Times further away are mistakes, and their neighbours may be out of Python's reach."""


def _written_out(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError("must be written out, such as 2026-01-31T00:00:00Z")  # noqa: TRY004  Pydantic wants it so
    return value


def within_reach(moment: datetime) -> datetime:
    """The same, or the nearest time that can be turned into UTC and compared: for filters, which find nothing there."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return EARLIEST if aware < EARLIEST else LATEST if aware > LATEST else moment


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""A time with its zone; not a number, of which nobody can tell seconds from milliseconds."""
