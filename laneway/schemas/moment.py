"""Times in requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""A time outside this range is a mistake, and computing with times near Python's own limits could overflow."""


LONGEST = 64
"""Characters of a time."""


def _require_text(value: object) -> object:
    if isinstance(value, str) and len(value) > LONGEST:
        raise ValueError(f"must have at most {LONGEST} characters")
    if isinstance(value, int | float):
        raise ValueError("must be written out, such as 2026-01-31T00:00:00Z")  # noqa: TRY004  Pydantic wants it so
    return value


def clamped(moment: datetime) -> datetime:
    """Return the time, or the limit that it exceeds. It is for filters, which find nothing beyond the limits anyway."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return EARLIEST if aware < EARLIEST else LATEST if aware > LATEST else moment


Moment = Annotated[AwareDatetime, BeforeValidator(_require_text)]
"""A time with its zone. A number is refused, because it could be seconds or milliseconds."""
FilterMoment = Annotated[Moment, AfterValidator(clamped)]
