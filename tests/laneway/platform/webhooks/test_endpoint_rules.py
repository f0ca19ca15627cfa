"""When a receiver of webhooks is disabled: the rules on any history of successes and failures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.platform.db.models import OutboundEndpoint
from laneway.platform.webhooks.endpoint_rules import (
    EndpointRules,
    alert_message,
    disable,
    enable,
    record_failure,
    record_success,
)

DAYS = timedelta(days=5)
RULES = EndpointRules(disable_after=DAYS, in_flight=4)
START = datetime(2026, 1, 1, tzinfo=UTC)

histories = st.lists(st.tuples(st.booleans(), st.integers(0, 7 * 24).map(lambda hours: timedelta(hours=hours))))
"""Successes and failures, each with the time since the one before."""


def new() -> OutboundEndpoint:
    return OutboundEndpoint(
        id="e", url="https://example.com/h", state="enabled", consecutive_failures=0, created_at=START, seen_at=START
    )


def expected(failures: list[datetime]) -> bool:
    """Whether the newest series of failures, without a long pause in it, is long enough."""
    row = failures[-1:]
    for earlier in reversed(failures[:-1]):
        if row[-1] - earlier >= DAYS:
            break
        row.append(earlier)
    return row[0] - row[-1] >= DAYS


@given(histories)
def test_a_receiver_is_disabled_after_days_of_nothing_but_failures(history: list[tuple[bool, timedelta]]) -> None:
    endpoint, at, failures = new(), START, list[datetime]()
    for good, pause in history:
        at += pause
        if good:
            record_success(endpoint, at=at)
            failures = []
            assert endpoint.failing_since is None
            continue
        record_failure(endpoint, "no", at=at, rules=RULES)
        failures.append(at)
        assert (RULES.disable_reason(endpoint, at=at) == "failing") is expected(failures)


@given(histories)
def test_enabling_forgets_every_failure(history: list[tuple[bool, timedelta]]) -> None:
    endpoint = new()
    for number, _ in enumerate(history):
        record_failure(endpoint, "no", at=START + timedelta(hours=number), rules=RULES)
    disable(endpoint, "failing", at=START)
    enable(endpoint)
    record_failure(endpoint, "no", at=START + timedelta(days=300), rules=RULES)

    assert (endpoint.state, endpoint.reason, endpoint.consecutive_failures) == ("enabled", None, 1)
    assert RULES.disable_reason(endpoint, at=START + timedelta(days=300)) is None


@pytest.mark.parametrize(("failures", "limit"), [(0, 4), (1, 4), (2, 4), (3, 1), (50, 1)])
def test_after_three_failures_in_a_row_there_is_one_delivery_at_a_time(failures: int, limit: int) -> None:
    endpoint = new()
    endpoint.consecutive_failures = failures

    assert RULES.max_in_flight(endpoint) == limit


@pytest.mark.parametrize(
    ("reason", "part"), [("gone", "410"), ("failing", "since 2026-01-01 00:00"), ("operator", "an operator")]
)
def test_the_alert_message_says_why_and_what_to_do(reason: str, part: str) -> None:
    endpoint = new()
    record_failure(endpoint, "no", at=START, rules=RULES)
    disable(endpoint, reason, at=START)

    assert part in alert_message(endpoint)
    assert "laneway callbacks enable e" in alert_message(endpoint)


def test_a_success_after_the_endpoint_was_disabled_does_not_change_the_alert_message() -> None:
    endpoint = new()
    record_failure(endpoint, "no", at=START, rules=RULES)
    disable(endpoint, "failing", at=START)
    before = alert_message(endpoint)
    record_success(endpoint, at=START + timedelta(seconds=1))

    assert alert_message(endpoint) == before
    assert endpoint.last_success_at == START + timedelta(seconds=1)
