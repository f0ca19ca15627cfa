"""The POST of an outbound webhook to a real receiver: the request, and what the response means."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from app.core.settings import ROOT
from laneway.platform.errors import InvalidPayload, UpstreamError
from laneway.platform.execution.retry import RetryPolicy
from laneway.platform.registry import registry
from laneway.platform.retry_after import retry_after
from laneway.platform.settings import OutboundSettings
from laneway.platform.settings.signing_key import signing_key
from laneway.platform.webhooks.egress import ForbiddenAddress, HttpResponse, display_url
from laneway.platform.webhooks.sender import (
    OUTBOUND_SCHEDULE,
    EndpointGone,
    Sender,
    delivery_body,
    raise_unless_successful,
)
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.waiting import wait_until

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
OLD_SECRET = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQt"
HAPPENED = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


KEY, OLD_KEY = (signing_key(SecretStr(secret), setting="secret") for secret in (SECRET, OLD_SECRET))


def sender(**changes: Any) -> Sender:
    given = {"allow_private": True, "timeout": 5, **changes}
    return Sender(OutboundSettings(_env_file=None, **given))


def deliver(
    url: str,
    *,
    attempt: int = 1,
    by: Sender | None = None,
    keys: Sequence[bytes] = (KEY,),
    delivery_id: str = "msg_1",
    data: Any = None,
    occurred_at: datetime = HAPPENED,
) -> HttpResponse:
    """Make one attempt, as `OutboundWebhooks` does."""
    body = delivery_body("conversation.replied", data or {"id": "c-1", "text": "Grüße"}, occurred_at=occurred_at)
    answer = (by or sender()).post(url, body, keys=keys, delivery_id=delivery_id)
    raise_unless_successful(answer, display_url(url), attempt=attempt)
    return answer


def failure(peer: HttpPeer, answer: HttpReply, *, attempt: int = 1) -> UpstreamError:
    peer.reply_with(answer)
    with pytest.raises(UpstreamError) as failed:
        deliver(peer.url, attempt=attempt)
    return failed.value


def test_a_delivery_is_signed_json_that_the_receiver_can_verify(http_peer: HttpPeer) -> None:
    answer = deliver(http_peer.url + "/hook?token=hidden")

    (asked,) = http_peer.requests
    content = Webhook(SECRET).verify(asked.body, asked.headers)
    assert content["type"] == "conversation.replied"
    assert content["data"] == {"id": "c-1", "text": "Grüße"}
    assert content["timestamp"] == "2026-01-02T03:04:05.678Z"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["webhook-id"] == "msg_1"
    assert asked.path == "/hook?token=hidden"
    assert answer.status == 200
    assert {name.lower() for name in answer.request_headers} == set(asked.headers) - {"content-length"}


def test_during_a_change_of_the_secret_both_secrets_verify(http_peer: HttpPeer) -> None:
    deliver(http_peer.url, keys=[KEY, OLD_KEY])
    deliver(http_peer.url)

    during, after = http_peer.requests
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OLD_SECRET):
        assert Webhook(secret).verify(during.body, during.headers)["type"] == "conversation.replied"
    assert Webhook(SECRET).verify(after.body, after.headers)
    for secret, asked in ((OLD_SECRET, after), ("whsec_" + "b3RoZXI=", during)):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(asked.body, asked.headers)


def test_the_receiver_in_the_examples_takes_a_webhook_once_and_refuses_others(tmp_path: Path) -> None:
    output = tmp_path / "output"
    argv = [sys.executable, str(ROOT / "examples" / "outbound_webhooks" / "receiver.py"), "0", "500"]
    with output.open("wb") as out:
        environment = {**os.environ, "RECEIVER_SECRET": SECRET, "PYTHONIOENCODING": "utf-8"}
        receiver = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        wait_until(lambda: "\n" in output.read_text("utf-8"), seconds=20)
        url = output.read_text("utf-8").split()[2]
        with pytest.raises(UpstreamError, match="it answered 401"):
            deliver(url, keys=[OLD_KEY])
        with pytest.raises(UpstreamError, match="it answered 500"):
            deliver(url)
        for _ in range(2):
            assert deliver(url).status == 204
    finally:
        receiver.kill()
        receiver.wait(10)
    verified = "to conversation.replied msg_1, signature verified"
    assert output.read_text("utf-8").splitlines()[1:] == [
        "answered 401 to an invalid signature",
        f"answered 500 {verified}",
        "new: conversation.replied {'id': 'c-1', 'text': 'Grüße'}",
        f"answered 204 {verified}",
        f"answered 204 {verified}",
    ]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_2xx_is_success(http_peer: HttpPeer, status: int) -> None:
    http_peer.reply_with(HttpReply(status))

    assert deliver(http_peer.url).status == status


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 408, 422, 425, 429, 500, 502, 503, 504])
def test_every_other_response_is_retried(http_peer: HttpPeer, status: int) -> None:
    error = failure(http_peer, HttpReply(status, {"Location": http_peer.url + "/other"}))

    assert error.retryable is True
    assert error.retry_after is None
    assert str(error) == f"http://127.0.0.1:{http_peer.port} failed: it answered {status}"
    assert len(http_peer.requests) == 1


def test_gone_is_permanent(http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(410))
    with pytest.raises(EndpointGone) as gone:
        deliver(http_peer.url + "/hook?token=hidden")

    assert gone.value.retryable is False
    assert str(gone.value) == f"http://127.0.0.1:{http_peer.port}/hook answered 410 Gone: it wants no more webhooks."
    assert str(pickle.loads(pickle.dumps(gone.value))) == str(gone.value)  # noqa: S301


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_may_ask_for_a_longer_wait_in_seconds_or_as_a_date(http_peer: HttpPeer, status: int) -> None:
    assert failure(http_peer, HttpReply(status, {"Retry-After": "120"})).retry_after == 120
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    asked = failure(http_peer, HttpReply(status, {"Retry-After": later})).retry_after
    assert asked is not None
    assert 590 < asked <= 601


def test_a_receiver_cannot_ask_for_less_than_the_schedule_or_more_than_a_day(http_peer: HttpPeer) -> None:
    assert failure(http_peer, HttpReply(429, {"Retry-After": "0"})).retry_after is None
    assert failure(http_peer, HttpReply(429, {"Retry-After": "60"}), attempt=2).retry_after is None
    assert failure(http_peer, HttpReply(429, {"Retry-After": "999999999"})).retry_after == 86_400
    assert failure(http_peer, HttpReply(500, {"Retry-After": "120"})).retry_after is None


@pytest.mark.parametrize("value", ["soon", "-1", "1e9", "１２", "9" * 50, "Wed, 99 Foo 2026", ""])
def test_an_invalid_retry_after_is_ignored(http_peer: HttpPeer, value: str) -> None:
    assert failure(http_peer, HttpReply(503, {"Retry-After": value.encode().decode("latin-1")})).retry_after is None


def test_timeouts_and_refused_connections_are_retried(http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(delay=30))
    with pytest.raises(UpstreamError, match="no answer within"):
        deliver(http_peer.url, by=sender(timeout=0.2))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UpstreamError, match="refused"):
        deliver(f"http://127.0.0.1:{port}/")


def test_private_receivers_are_refused_unless_they_are_allowed(http_peer: HttpPeer) -> None:
    with pytest.raises(ForbiddenAddress):
        deliver(http_peer.url, by=sender(allow_private=False))

    assert http_peer.requests == []


def test_loopback_receivers_can_be_allowed_alone(http_peer: HttpPeer) -> None:
    own = sender(allow_private=False, allow_loopback=True)
    with pytest.raises(ForbiddenAddress, match="private"):
        deliver("http://10.0.0.1/", by=own)

    assert deliver(http_peer.url, by=own).status == 200


@pytest.mark.parametrize("changes", [{"delivery_id": "a\nb"}, {"delivery_id": ""}, {"data": {"a": float("nan")}}])
def test_a_webhook_that_cannot_be_sent_is_a_permanent_error(http_peer: HttpPeer, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload):
        deliver(http_peer.url, **changes)

    assert http_peer.requests == []


def test_an_error_holds_neither_the_secret_nor_the_signature_nor_the_query(http_peer: HttpPeer) -> None:
    def echo(asked: Any) -> HttpReply:
        return HttpReply(500, {}, json.dumps(asked.headers))

    http_peer.reply_with(echo)
    with pytest.raises(UpstreamError) as failed:
        deliver(http_peer.url + "/h?token=hidden")

    text = repr(failed.value) + str(failed.value) + repr(failed.value.__cause__)
    signature = http_peer.requests[0].headers["webhook-signature"]
    assert not any(word in text for word in (SECRET, SECRET.removeprefix("whsec_"), signature, "hidden"))


RETRIES = registry["send_webhook_response_task"].max_retries or 0
POLICY = RetryPolicy(max_retries=RETRIES, delay=1, delay_max=1, schedule=OUTBOUND_SCHEDULE)
FAILURE = UpstreamError("hook", "it answered 500")


@given(attempt=st.integers(1, 7), drawn=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_that_of_the_schedule_plus_at_most_a_tenth(attempt: int, drawn: float) -> None:
    delay = POLICY.next_delay(FAILURE, attempts=attempt, random=lambda: drawn)

    assert delay is not None
    assert OUTBOUND_SCHEDULE[attempt - 1] <= delay <= OUTBOUND_SCHEDULE[attempt - 1] * 1.1


@given(attempt=st.integers(8, 1000))
def test_after_the_schedule_comes_no_further_attempt(attempt: int) -> None:
    assert POLICY.next_delay(FAILURE, attempts=attempt, random=lambda: 0.5) is None


@given(st.text() | st.integers().map(str) | st.datetimes().map(format_datetime))
def test_retry_after_is_always_between_now_and_a_day(value: str) -> None:
    asked = retry_after(value, at=datetime(2026, 1, 1, tzinfo=UTC))

    assert asked is None or 0 <= asked <= 86_400
