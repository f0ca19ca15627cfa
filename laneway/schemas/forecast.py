"""When a task is expected to start and to end."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from laneway.schemas.model import Model


class Forecast(Model):
    """When a task is expected to start and to end, from what its queue did within the last minutes.

    Of a hundred such tasks about 50 start before `starts_p50`, and 90 before `starts_p90`.
    """

    model_config = ConfigDict(frozen=True)

    starts_p50: datetime
    starts_p90: datetime
    ends_p50: datetime | None = Field(default=None, description="Null if no task of this name has ended within a day")
    ends_p90: datetime | None = None
    rate: float | None = Field(default=None, description="Tasks a minute that its queue started while others waited")
    starts: int = Field(description="The number of starts from which that is known")
