"""Why a payload does not fit is told without any value of the payload."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, field_validator

from laneway.platform.gate.findings import form_of_payload
from laneway.platform.gate.misfit import misfit
from laneway.schemas.payload import Payload

SECRET = "ann@example.org"


class Line(Payload):
    """A line of an order."""

    article: str
    number: int


class Order(Payload):
    """An order."""

    customer: str
    size: Literal["small", "large"] = "small"
    lines: list[Line] = Field(default_factory=list[Line])
    prices: dict[str, int] = Field(default_factory=dict[str, int])

    @field_validator("customer")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == SECRET:
            raise ValueError(f"{value} is blocked")
        return value


def test_a_payload_that_fits_has_no_problem() -> None:
    assert misfit(Order, {"customer": "Bo", "lines": [{"article": "cup", "number": 1}]}) is None


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"size": "small"}, "customer: Field required"),
        ({"customer": "Bo", "colour": SECRET}, "the field 'colour' is not known"),
        ({"customer": SECRET}, "customer: a check of the application refuses it"),
        ({"customer": "Bo", "args": [SECRET]}, "it has positional arguments that the fields cannot take"),
        ({"customer": "Bo", "lines": [{"article": "cup", "number": SECRET}]}, "lines.….number: Input should be"),
        ({"customer": "Bo", "prices": {SECRET: SECRET}}, "prices.…: Input should be"),
    ],
)
def test_the_reason_names_fields_and_no_value(payload: dict[str, object], told: str) -> None:
    found = misfit(Order, payload)

    assert found is not None
    assert told in found
    assert SECRET not in found


def test_the_same_mistake_in_other_places_of_a_list_is_the_same_text() -> None:
    first = misfit(Order, {"customer": "Bo", "lines": [{"article": "cup"}]})
    second = misfit(Order, {"customer": "Bo", "lines": [{"article": "cup", "number": 1}, {"article": "jug"}]})

    assert first == second


def test_many_problems_are_cut() -> None:
    found = misfit(Order, dict.fromkeys("abcdefgh", 1))

    assert found is not None
    assert found.endswith("; and 5 more")


def test_the_form_of_a_payload_has_no_value() -> None:
    payload = {"customer": SECRET, "lines": [1, 2], "paid": True, "total": 1.5, "note": None}

    assert (
        form_of_payload(payload) == "customer: text, lines: list of 2, paid: true or false, total: number, note: null"
    )
