"""Limits of queues in the units of the platform and of the engine, and the reasons that waiting tasks show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from laneway.engine import Limits, QueueStats
from laneway.platform.flow.rate_limits import RateLimit, in_flight_reason, paused_reason, rate_reason

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOW_US = round(NOW.timestamp() * 1_000_000)


def stats(*, paused: bool = False, leased: int = 0, **limits: Any) -> QueueStats:
    """A queue with these limits in the engine."""
    return QueueStats("qa", 1, 0, 0, 0, leased, 0, None, paused, limits, {})


@pytest.mark.parametrize(
    ("throttle", "interval", "burst"),
    [
        (RateLimit(), None, None),
        (RateLimit(rate=1), 1_000_000, 1),
        (RateLimit(rate=10, per_seconds=60), 6_000_000, 1),
        (RateLimit(rate=500), 2_000, 50),
        (RateLimit(rate=1_000_000), 1, 100_000),
        (RateLimit(rate=1, per_seconds=86_400), 86_400_000_000, 1),
    ],
)
def test_limits_hold_after_they_were_set(throttle: RateLimit, interval: int | None, burst: int | None) -> None:
    fields = Limits(rate=throttle.per_second, burst=throttle.burst).fields()
    given = {name: fields[name] for name in ("interval", "burst") if fields[name] is not None}

    assert (given.get("interval"), given.get("burst")) == (interval, burst)
    assert throttle.holds(stats(**given))


@pytest.mark.parametrize(
    "other",
    [
        RateLimit(),
        RateLimit(rate=3),
        RateLimit(rate=2, per_seconds=9),
        RateLimit(rate=2, max_in_flight=1),
        RateLimit(rate=2, paused=True),
    ],
)
def test_any_difference_is_noticed(other: RateLimit) -> None:
    assert RateLimit(rate=2).holds(stats(interval=500_000, burst=1))
    assert not other.holds(stats(interval=500_000, burst=1))


def test_a_paused_queue_gives_its_reason() -> None:
    assert paused_reason(stats()) is None
    assert paused_reason(stats(paused=True)) == "its queue 'qa' to be resumed: it is paused"


def test_a_queue_with_room_gives_no_reason() -> None:
    assert in_flight_reason(stats()) is None
    assert in_flight_reason(stats(leased=1, max_in_flight=2)) is None
    assert rate_reason(stats(), now=NOW) is None
    assert rate_reason(stats(interval=1_000_000, burst=1, tat=NOW_US - 1), now=NOW) is None
    assert rate_reason(stats(interval=1_000_000, burst=2, tat=NOW_US + 1_000_000), now=NOW) is None


def test_a_queue_at_its_limit_gives_the_number_of_running_tasks() -> None:
    why = in_flight_reason(stats(leased=2, max_in_flight=2))

    assert why == "its turn: the queue 'qa' has 2 running tasks already (max_in_flight)"


@pytest.mark.parametrize(("interval", "pace"), [(6_000_000, "one task in 6 s"), (200_000, "5 tasks a second")])
def test_a_queue_whose_rate_is_used_up_gives_its_pace_and_when_it_opens(interval: int, pace: str) -> None:
    used = stats(interval=interval, burst=1, tat=NOW_US + 1000)

    assert rate_reason(used, now=NOW) == (
        f"its turn: the queue 'qa' starts {pace} (rate limit)",
        NOW + timedelta(milliseconds=1),
    )
    assert rate_reason(used, now=NOW + timedelta(seconds=7)) is None
