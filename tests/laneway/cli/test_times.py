"""Times as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer

from laneway.cli.times import ago, moment, seconds, span, written

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90),
        ("0", 0),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("10m", 600),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d12h", 129_600),
        ("1.5h", 5400),
        ("2w", 1_209_600),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "-1", "soon", "10 m", "m", "1h-2m", "nan", "inf", "1e3", "1y", "1h30", "１０m"])
def test_another_text_is_no_duration_and_the_error_has_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"is no duration\. Write for example 90 .*10m, 2h"):
        seconds(text)


def test_a_duration_without_end_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="longer than 100 years"):
        seconds("99999999d")


@pytest.mark.parametrize(
    ("length", "text"), [(0, "0s"), (0.5, "0.5s"), (90, "1m30s"), (3600, "1h"), (90_000, "1d1h"), (600, "10m")]
)
def test_a_duration_is_written_as_it_can_be_read(length: float, text: str) -> None:
    assert (written(length), seconds(written(length))) == (text, length)


def test_a_moment_is_a_date_or_a_time_ago() -> None:
    assert moment("2026-01-31T09:30Z") == datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    assert moment("2026-01-31T09:30+02:00") == datetime(2026, 1, 31, 7, 30, tzinfo=UTC)
    assert moment("2026-01-31") == datetime(2026, 1, 31).astimezone(UTC)
    assert abs(datetime.now(UTC) - timedelta(hours=2) - moment("2h")) < timedelta(seconds=10)


@pytest.mark.parametrize("text", ["", "soon", "1700000000", "2026-13-01", "-2h", "0001-01-01T00:00+14:00"])
def test_another_text_is_no_moment_and_the_error_has_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"is no time\. Write for example 2h .two hours ago"):
        moment(text)


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (0, "0 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (200, "3 min ago"),
        (7200, "2 h ago"),
        (200_000, "2 d ago"),
        (-90, "in 1 min"),
    ],
)
def test_times_are_told_from_now(passed: float, text: str) -> None:
    assert ago(NOW - timedelta(seconds=passed), now=NOW) == text
    assert span(abs(passed)) in text
