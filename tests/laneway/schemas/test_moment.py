"""Times in requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from laneway.api.parameters import Timestamp
from laneway.schemas.moment import EARLIEST, LATEST, LONGEST, FilterMoment, Moment

KINDS: list[TypeAdapter[Any]] = [TypeAdapter(kind) for kind in (Moment, FilterMoment, Timestamp)]


@pytest.mark.parametrize("text", ["2026-01-31T08:00:00Z", "2026-01-31T09:00:00+01:00", "2026-01-31 08:00:00.000000Z"])
def test_a_time_with_its_zone_is_one(text: str) -> None:
    for kind in KINDS:
        assert kind.validate_python(text) == datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize("number", [1_700_000_000, 1.7e9, "1700000000", "1700000000.5", "-5", "+1700000000000"])
def test_a_number_is_refused_also_as_text(number: float | str) -> None:
    for kind in KINDS:
        with pytest.raises(ValidationError, match="must be written out"):
            kind.validate_python(number)


def test_a_text_that_is_longer_than_any_time_is_refused() -> None:
    start = "2026-01-31T08:00:00."
    text = start + "0" * (LONGEST - len(start)) + "Z"
    for kind in KINDS:
        with pytest.raises(ValidationError, match="at most 64 characters"):
            kind.validate_python(text)


def test_a_time_without_zone_is_refused_except_in_a_query() -> None:
    for kind in KINDS[:2]:
        with pytest.raises(ValidationError, match="timezone"):
            kind.validate_python("2026-01-31T08:00:00")
    assert KINDS[2].validate_python("2026-01-31T08:00:00") == datetime(2026, 1, 31, 8)  # noqa: DTZ001


def test_a_filter_is_cut_to_the_times_that_can_be() -> None:
    for text, limit in (("0001-01-01T00:00:00Z", EARLIEST), ("9999-12-31T23:59:59Z", LATEST)):
        assert KINDS[1].validate_python(text) == limit
        assert KINDS[2].validate_python(text) == limit
