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
    ends_p50: datetime | None = Field(None, description="Null if no task of this name has ended within a day")
    ends_p90: datetime | None = None
    rate: float | None = Field(None, description="Tasks a minute that the queue finished lately; null if not needed")
    minutes: int = Field(description="The number of minutes that the rate was measured in")
