"""Types of query parameters that routes share."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final

from fastapi import Query
from pydantic import AfterValidator, BeforeValidator

from laneway.schemas.moment import clamped

LAST_ID: Final = 2**63 - 1
"""The largest number of a row."""


def _reject_number(value: object) -> object:
    if isinstance(value, str):
        if len(value) > LONGEST_TIME:
            raise ValueError(f"must have at most {LONGEST_TIME} characters")
        if NUMBER.fullmatch(value):
            raise ValueError("must be written out, such as 2026-01-31T00:00:00Z")
    return value


LONGEST_TIME: Final = 64
"""Characters of a time in a parameter."""
NUMBER = re.compile(r"[\s\d.+-]+(?:[eE][\d+\s-]+)?")
"""A number, in any spelling that Pydantic might take for seconds. Its two parts share no separator: it is linear."""
Timestamp = Annotated[datetime, BeforeValidator(_reject_number), AfterValidator(clamped)]
"""A time as text. A number is refused, because it could be seconds or milliseconds."""
Short = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
