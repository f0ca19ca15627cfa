"""The savings calculator: what it is given, and its figures."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from laneway.platform.schemas.task import Response


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  Pydantic wants it so
    return value


Number = Annotated[Decimal, BeforeValidator(_no_truth), PlainSerializer(float, return_type=float, when_used="json")]
"""Exact here; a plain number in JSON."""
Money = Annotated[Number, Field(description="In the currency of the wage, rounded half up to two places")]


class CalculatorInputs(BaseModel):
    """What a task that is done by hand costs today. The bounds keep all figures exact, in JSON too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks_per_week: Number = Field(gt=0, le=100_000, decimal_places=4)
    time_per_task_minutes: Number = Field(gt=0, le=10_080, decimal_places=4)
    hourly_wage: Number = Field(ge=0, le=100_000, decimal_places=4)
    automation_percent: Number = Field(ge=0, le=100, decimal_places=4)


class Savings(Response):
    """What is saved. A year has 52 weeks, a month is a twelfth of it; each figure is rounded by itself."""

    weekly: Money
    monthly: Money
    yearly: Money


class Calculation(Savings):
    """The same with the hours that are behind it."""

    hours_per_week: Number = Field(description="Rounded half up to four places")
