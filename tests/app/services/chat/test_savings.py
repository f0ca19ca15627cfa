"""The savings calculator: exact arithmetic, rounded results."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.schemas.savings import CalculatorInputs
from app.services.chat.savings import compute_savings

AMOUNTS = st.decimals(0, 100_000, places=4)


def inputs(tasks: object = 20, minutes: object = 5, wage: object = 25, percent: object = 80) -> CalculatorInputs:
    """Inputs as a request has them."""
    return CalculatorInputs.model_validate(
        {"tasks_per_week": tasks, "time_per_task_minutes": minutes, "hourly_wage": wage, "automation_percent": percent}
    )


def test_20_tasks_of_5_minutes_at_25_an_hour_by_80_percent_save_33_33_a_week() -> None:
    assert compute_savings(inputs()).model_dump(mode="json") == {
        "weekly": 33.33,
        "monthly": 144.44,
        "yearly": 1733.33,
        "hours_per_week": 1.3333,
    }


def test_each_figure_is_rounded_half_up_from_the_exact_value() -> None:
    result = compute_savings(inputs(tasks=1, minutes=3, wage="0.1", percent=100))  # exactly half a cent per week

    assert (result.weekly, result.yearly) == (Decimal("0.01"), Decimal("0.26"))


@given(AMOUNTS.filter(bool), st.decimals("0.0001", 10_080, places=4), AMOUNTS, st.decimals(0, 100, places=4))
def test_the_result_is_within_half_a_cent_of_exact_fractions(
    tasks: Decimal, minutes: Decimal, wage: Decimal, share: Decimal
) -> None:
    exact = Fraction(tasks) * Fraction(minutes) * Fraction(wage) * Fraction(share) / 6000
    result = compute_savings(inputs(tasks, minutes, wage, share))

    for figure, value in ((result.weekly, exact), (result.yearly, exact * 52), (result.monthly, exact * 52 / 12)):
        assert abs(Fraction(figure) - value) <= Fraction(1, 200)
        assert Decimal(str(float(figure))).quantize(Decimal("0.01")) == figure, "JSON does not keep it"


@pytest.mark.parametrize("field", ["tasks", "minutes", "wage", "percent"])
def test_invalid_and_out_of_range_numbers_are_refused(field: str) -> None:
    for value in (-1, 10**9, "many", "NaN", "Infinity", None, True, 0.00001):
        with pytest.raises(ValidationError):
            inputs(**{field: value})
