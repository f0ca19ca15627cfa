"""Times in requests."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""A time outside this range is a mistake, and computing with times near Python's own limits could overflow."""
LONGEST: Final = 64
"""Characters of a time."""
NUMBER: Final = re.compile(r"[\s\d.+-]+(?:[eE][\d+\s-]+)?")
"""A number, in any spelling that Pydantic might take for seconds. Its two parts share no separator: it is linear."""


def written_out(value: object) -> object:
    """Return what may be a time. A number is refused, also as text: it could be seconds or milliseconds."""
    if isinstance(value, str) and len(value) > LONGEST:
        raise ValueError(f"must have at most {LONGEST} characters")
    if isinstance(value, int | float) or (isinstance(value, str) and NUMBER.fullmatch(value)):
        raise ValueError("must be written out, such as 2026-01-31T00:00:00Z")
    return value


def clamped(moment: datetime) -> datetime:
    """Return the time, or the limit that it exceeds. It is for filters, which find nothing beyond the limits anyway."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return EARLIEST if aware < EARLIEST else LATEST if aware > LATEST else moment


Moment = Annotated[AwareDatetime, BeforeValidator(written_out)]
"""A time with its zone."""
FilterMoment = Annotated[Moment, AfterValidator(clamped)]
