"""Whole numbers in requests."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from laneway.schemas.number import Whole

whole = TypeAdapter(Whole)


@pytest.mark.parametrize("text", ["262", "262.0", "2.62e2"])
def test_every_spelling_of_a_whole_number_is_one(text: str) -> None:
    assert whole.validate_json(text) == 262


@pytest.mark.parametrize("text", ["262.5", '"262"', "true", "null", "1e999", "NaN"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        whole.validate_json(text)
