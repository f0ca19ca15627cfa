"""The savings calculator: its inputs and its figures."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from laneway.schemas.payload import Identifier
from laneway.schemas.task import Response


def _reject_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  Pydantic reports only a ValueError as a problem
    return value


Number = Annotated[
    Decimal, BeforeValidator(_reject_boolean), PlainSerializer(float, return_type=float, when_used="json")
]
"""An exact decimal; a plain number in JSON."""
Money = Annotated[Number, Field(description="In the currency of the wage, rounded half up to two places")]


class CalculatorInputs(BaseModel):
    """The figures of a task that is done by hand today. Their bounds keep all results exact, also in JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks_per_week: Number = Field(gt=0, le=100_000, decimal_places=4)
    time_per_task_minutes: Number = Field(gt=0, le=10_080, decimal_places=4)
    hourly_wage: Number = Field(ge=0, le=100_000, decimal_places=4)
    automation_percent: Number = Field(ge=0, le=100, decimal_places=4)


class FollowUpInputs(CalculatorInputs):
    """Inputs of `customer_followup`: the figures, and the customer if one is named."""

    conversation_id: Identifier | None = None
    lead_id: Identifier | None = None


class Savings(Response):
    """The money that is saved. A year has 52 weeks, a month is a twelfth of it; each figure is rounded separately."""

    weekly: Money
    monthly: Money
    yearly: Money


class Calculation(Savings):
    """The savings, with the hours that they come from."""

    hours_per_week: Number = Field(description="Rounded half up to four places")
