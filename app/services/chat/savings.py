"""The savings calculator, and the steps of the workflow `savings_assessment`.

Weekly savings are tasks x minutes x automated share / 60, in hours, times the hourly wage. The arithmetic is exact
decimal. Only results are rounded, half up, each from its exact value: 20 tasks x 5 min x 25/h x 80 % is 33.33 a week
(33.333…), 144.44 a month and 1733.33 a year.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from functools import partial
from typing import Any, Final

from pydantic import ValidationError

from app.schemas.savings import Calculation, CalculatorInputs, Savings
from laneway.platform import clock
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.session import Database
from laneway.platform.workflows.handlers import Handler, Returned, StepCall, failed

WEEKS_PER_YEAR: Final = 52
MONTHS_PER_YEAR: Final = 12
CENTS, FOUR_PLACES = Decimal("0.01"), Decimal("0.0001")
PRECISION: Final = 60
"""Digits of the decimal context: more than the largest inputs need."""


def compute_savings(inputs: CalculatorInputs) -> Calculation:
    """Compute what automating a share of a task saves."""
    with localcontext(Context(prec=PRECISION)):
        minutes = inputs.tasks_per_week * inputs.time_per_task_minutes * inputs.automation_percent / 100
        weekly = minutes * inputs.hourly_wage / 60  # The division comes last, so that no factor is rounded before.
        yearly = weekly * WEEKS_PER_YEAR
        return Calculation(
            weekly=_rounded(weekly, CENTS),
            monthly=_rounded(yearly / MONTHS_PER_YEAR, CENTS),
            yearly=_rounded(yearly, CENTS),
            hours_per_week=_rounded(minutes / 60, FOUR_PLACES),
        )


def _rounded(value: Decimal, places: Decimal) -> Decimal:
    return value.quantize(places, ROUND_HALF_UP)


def validate_inputs(call: StepCall) -> Returned:
    """Check the stored inputs again, and return how many hours the work takes today."""
    try:
        inputs = CalculatorInputs.model_validate(call.input)
    except ValidationError as error:
        return failed(f"invalid inputs: {', '.join(str(item['loc'][0]) for item in error.errors())}")
    return {"hours_by_hand": by_hand(inputs)}


def by_hand(inputs: CalculatorInputs) -> float:
    """The hours a week that the work takes today."""
    return float(_rounded(inputs.tasks_per_week * inputs.time_per_task_minutes / 60, FOUR_PLACES))


def calculate_savings(call: StepCall) -> Returned:
    """Compute the savings of the run's inputs."""
    return compute_savings(CalculatorInputs.model_validate(call.input))


def record_metrics(database: Database, call: StepCall) -> Returned:
    """Store the savings as metrics of the run, in cents; a repeat overwrites them."""
    figures = Calculation.model_validate(call.outputs["calculate"])
    metrics = {f"{name}_savings_cents": int(getattr(figures, name) * 100) for name in ("weekly", "monthly", "yearly")}
    with database.transaction() as session:
        repository.set_metrics(session, call.run_id, metrics, at=clock.now())
    return {"recorded": len(metrics)}


def summarise_savings(call: StepCall) -> Returned:
    """Summarise the savings in one sentence."""
    figures = Calculation.model_validate(call.outputs["calculate"])
    return {"summary": savings_sentence(call.outputs), "estimated_savings": figures.model_dump(mode="json")}


def savings_sentence(outputs: Mapping[str, dict[str, Any]]) -> str:
    """The outputs of the steps `validate` and `calculate` in one sentence."""
    figures = Calculation.model_validate(outputs["calculate"])
    hours = Decimal(str(outputs["validate"]["hours_by_hand"]))
    return (
        f"Of {hours:g} hours a week {figures.hours_per_week:g} can be saved: {figures.weekly:.2f} a week, "
        f"{figures.monthly:.2f} a month, {figures.yearly:.2f} a year."
    )


def step_handlers(database: Database) -> tuple[Handler, ...]:
    """The step handlers that workflow definitions may name."""
    return (
        Handler("savings_validate", validate_inputs),
        Handler("savings_calculate", calculate_savings),
        Handler("savings_record_metrics", partial(record_metrics, database)),
        Handler("savings_summarise", summarise_savings),
    )


def estimated_savings(metrics: dict[str, int]) -> Savings | None:
    """The savings among a run's metrics; None for runs of other workflows."""
    cents = {name: metrics.get(f"{name}_savings_cents") for name in ("weekly", "monthly", "yearly")}
    if any(value is None for value in cents.values()):
        return None
    return Savings(**{name: Decimal(value or 0) / 100 for name, value in cents.items()})
