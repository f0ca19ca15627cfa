"""Rules of a submission about the other tasks of its key."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from laneway.schemas.model import Model
from laneway.schemas.text import Text

A_YEAR = 366 * 86_400
Time = Annotated[float, Field(strict=True, gt=0, le=A_YEAR)]


class Debounce(Model):
    """One task for all submissions of a key that come shortly after each other; the last one gives its payload."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"key": "invoice-17", "seconds": 5}]})

    seconds: Time = Field(description="The task starts so long after the last submission")
    max_seconds: Time | None = Field(
        None, description="It starts at most so long after the first submission; default: ten times `seconds`"
    )
    key: Text | None = Field(None, description="Default: the ordering key")

    @model_validator(mode="after")
    def _require_order(self) -> Self:
        if self.max_seconds is not None and self.max_seconds < self.seconds:
            raise ValueError("max_seconds is at least seconds")
        return self


class Throttle(Model):
    """At most one task of a key starts in a period; a further submission returns that task."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"key": "ada", "seconds": 60}]})

    seconds: Time = Field(description="The period")
    key: Text | None = Field(None, description="Default: the ordering key")
