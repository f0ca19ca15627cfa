"""Parameters of pages. An empty one selects all: a form sends its empty fields, too."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import Query
from pydantic import BeforeValidator

from laneway.api.parameters import LAST_ID, Timestamp
from laneway.platform import clock

EMPTY_IS_NONE: Final = BeforeValidator(lambda text: text or None)
Word = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
"""A filter."""
Moment = Annotated[Timestamp | None, EMPTY_IS_NONE, Query()]
"""A time that limits a list."""
Before = Annotated[int | None, Query(ge=0, le=LAST_ID)]
"""The number of the last row of the page before."""


def moment_text(moment: datetime | None) -> str:
    """A time as an address has it; empty if there is none."""
    aware = clock.aware(moment)
    return aware.isoformat() if aware else ""
