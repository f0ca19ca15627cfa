"""How long a service asks to wait: as the errors of HTTP clients tell it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from laneway.platform import clock
from laneway.platform.errors import UpstreamError
from laneway.platform.retry_after import asked_wait
from tests.fixtures.http_peer import HttpPeer, HttpReply

DAY = 86_400.0


class ClientError(Exception):
    """The error of an HTTP client."""

    def __init__(self, status: object, headers: Any) -> None:
        super().__init__()
        self.response = SimpleNamespace(status_code=status, headers=headers)


class Broken(Exception):
    """Its attributes cannot be read."""

    @property
    def response(self) -> Any:
        raise RuntimeError("closed")


def wait_of(error: BaseException) -> float | None:
    return asked_wait(error, at=datetime(2026, 11, 30, tzinfo=UTC))


def by_httpx(url: str) -> Exception:
    with pytest.raises(httpx.HTTPStatusError) as raised:
        httpx.post(url).raise_for_status()
    return raised.value


def by_requests(url: str) -> Exception:
    with pytest.raises(requests.HTTPError) as raised:
        requests.post(url, timeout=5).raise_for_status()
    return raised.value


@pytest.mark.parametrize("ask", [by_httpx, by_requests])
def test_the_errors_of_common_clients_are_understood(ask: Any, http_peer: HttpPeer) -> None:
    http_peer.reply_with(
        HttpReply(429, {"retry-after": "7"}),
        HttpReply(503, {"Retry-After": format_datetime(clock.now() + timedelta(seconds=90), usegmt=False)}),
        HttpReply(500, {"Retry-After": "7"}),
        HttpReply(429),
    )
    assert asked_wait(ask(http_peer.url), at=clock.now()) == 7
    assert 80 < (asked_wait(ask(http_peer.url), at=clock.now()) or 0) <= 90
    assert asked_wait(ask(http_peer.url), at=clock.now()) is None, "the status asks for nothing"
    assert asked_wait(ask(http_peer.url), at=clock.now()) is None, "it names no time"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("-5", None),
        ("0", 0.0),
        ("31536000", DAY),
        ("9" * 400, None),
        ("Wed, 30 Nov 2016 00:00:00 GMT", 0.0),
        ("Wed, 30 Nov 2036 00:00:00 GMT", DAY),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("٧", None),
        ("", None),
    ],
)
def test_hostile_values_are_bounded_or_no_wait_at_all(value: str, seconds: float | None) -> None:
    assert wait_of(ClientError(429, {"Retry-After": value})) == seconds


@given(st.text(max_size=40))
def test_a_wait_is_always_between_now_and_a_day(value: str) -> None:
    found = wait_of(ClientError(429, {"retry-after": value}))
    assert found is None or 0 <= found <= DAY


@pytest.mark.parametrize(
    "error",
    [
        ValueError("429"),
        Broken(),
        ClientError("429", {"retry-after": "7"}),
        ClientError(429, None),
        ClientError(429, {"retry-after": 7}),
        UpstreamError("crm", "away"),
        UpstreamError("crm", "away", math.nan),
    ],
)
def test_other_errors_ask_for_nothing(error: Exception) -> None:
    assert wait_of(error) is None


def test_an_upstream_error_and_what_an_error_was_raised_from_count() -> None:
    assert wait_of(UpstreamError("crm", "busy", 12)) == 12
    assert wait_of(UpstreamError("crm", "busy", 1e12)) == DAY
    outer = RuntimeError("the lead cannot be sent")
    outer.__cause__ = ClientError(503, {"retry-after": "3"})
    assert wait_of(outer) == 3
    outer.__cause__ = outer
    assert wait_of(outer) is None, "it ends"
