"""Types of query parameters that routes share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import Query
from pydantic import AfterValidator, BeforeValidator

from laneway.schemas.moment import clamped, written_out

LAST_ID: Final = 2**63 - 1
"""The largest number of a row."""
Timestamp = Annotated[datetime, BeforeValidator(written_out), AfterValidator(clamped)]
"""A time as text, with its zone or in UTC."""
Short = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
