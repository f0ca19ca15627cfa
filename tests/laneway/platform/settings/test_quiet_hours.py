"""Quiet hours begin and end at times of day in their zone, also over midnight and where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from laneway.platform.settings.quiet_hours import QuietHours

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo | None = None) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC)


NIGHT = QuietHours.parse("22:00-07:00", BERLIN)
NOON = QuietHours.parse("12:00-13:30", ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("quiet", "now", "is_quiet"),
    [
        (NIGHT, at("2026-01-10T20:59:59"), False),
        (NIGHT, at("2026-01-10T21:00:00"), True),
        (NIGHT, at("2026-01-11T05:59:59"), True),
        (NIGHT, at("2026-01-11T06:00:00"), False),
        (NIGHT, at("2026-07-11T05:00:00"), False),
        (NOON, at("2026-01-10T12:00:00"), True),
        (NOON, at("2026-01-10T13:30:00"), False),
        (NOON, at("2026-01-10T11:59:00"), False),
    ],
)
def test_whether_it_is_quiet(quiet: QuietHours, now: datetime, is_quiet: bool) -> None:
    assert (quiet.current(now) is not None) is is_quiet
    assert (quiet.last(now) is None) is is_quiet


def test_the_last_quiet_hours_are_those_of_the_last_night() -> None:
    last = NIGHT.last(at("2026-01-11T15:00:00"))

    assert last == (at("2026-01-10T22:00:00", BERLIN), at("2026-01-11T07:00:00", BERLIN))
    assert NIGHT.last(at("2026-01-11T20:00:00")) == last
    assert NOON.last(at("2026-01-11T10:00:00")) == (at("2026-01-10T12:00:00"), at("2026-01-10T13:30:00"))


def test_a_night_in_which_clocks_are_changed_is_shorter() -> None:
    last = NIGHT.last(at("2026-03-29T12:00:00"))

    assert last is not None
    assert (last.end.astimezone(UTC) - last.start.astimezone(UTC)).total_seconds() == 8 * 3600


@pytest.mark.parametrize("text", ["22-7", "22:00", "24:00-07:00", "22:00-07:60", "7:00-8:00", "22:00-22:00", ""])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        QuietHours.parse(text, BERLIN)
