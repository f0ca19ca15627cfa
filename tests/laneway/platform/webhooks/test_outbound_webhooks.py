"""Attempts at outbound webhooks: what the log stores, and how they change the receiver."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from laneway.platform.errors import DatabaseUnavailable, InvalidPayload, TaskCancelled, UpstreamError
from laneway.platform.webhooks import outbound_webhooks as module
from laneway.platform.webhooks.egress import ForbiddenAddress
from laneway.platform.webhooks.sender import EndpointGone
from tests.fixtures.http_peer import HttpPeer, HttpReply, HttpRequest
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.receiving import DeliveryHarness, webhook


@pytest.fixture
def harness(platform: Platform) -> DeliveryHarness:
    return DeliveryHarness(platform.database)


def test_a_delivery_is_logged_with_request_and_response(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(202, {}, "taken"))
    receipt = harness.deliver(http_peer.url + "/hook?token=hidden")

    (asked,), (attempt,), delivery = http_peer.requests, harness.attempts(), harness.delivery()
    assert Webhook(harness.secret(http_peer.url)).verify(asked.body, asked.headers)["data"] == {"n": 1}
    assert (receipt.status, receipt.url) == (202, f"http://127.0.0.1:{http_peer.port}/hook")
    assert (attempt.number, attempt.status, attempt.answer, attempt.error) == (1, 202, "taken", None)
    assert attempt.ended_at is not None and attempt.duration_ms == receipt.duration_ms
    assert {name.lower() for name in attempt.request_headers} == set(asked.headers) - {"content-length"}
    assert (delivery.state, delivery.attempts, delivery.status, delivery.error) == ("completed", 1, 202, None)
    assert delivery.body.encode() == asked.body
    assert harness.endpoint().url == receipt.url
    assert harness.endpoint().last_success_at is not None


def test_a_response_whose_body_is_cut_is_a_success(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(200, {"Transfer-Encoding": "chunked"}, "no chunk at all"))
    receipt = harness.deliver(http_peer.url)

    (attempt,) = harness.attempts()
    assert (receipt.status, attempt.status, attempt.error, harness.delivery().state) == (200, 200, None, "completed")


def test_every_attempt_sends_the_same_body_under_the_same_id(
    harness: DeliveryHarness, platform: Platform, http_peer: HttpPeer, movable_clock: MovableClock
) -> None:
    id = platform.webhook(http_peer.url).task_id
    http_peer.reply_with(HttpReply(500))
    movable_clock.forward(60)
    harness.failure(http_peer.url, id=id)
    movable_clock.forward(3600)
    harness.deliver(http_peer.url, id=id, attempt=2)

    first, second = http_peer.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == id
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) >= 3600
    accepted = platform.row(id).accepted_at
    assert second.json()["timestamp"] == accepted.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_the_time_of_the_event_may_be_given(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    harness.deliver(http_peer.url, occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))

    assert http_peer.requests[0].json()["timestamp"] == "2026-01-02T03:04:05.678Z"
    for impossible in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-01-02T03:04:05", 1_767_323_045):
        with pytest.raises(ValidationError):
            webhook(http_peer.url, occurred_at=impossible)


def test_failures_are_logged_and_the_last_one_is_a_dead_letter(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.always = HttpReply(500, {}, b"x" * 5000)
    error = harness.failure(http_peer.url)
    (attempt,) = harness.attempts()

    assert (attempt.status, attempt.error_type, attempt.error) == (500, "UpstreamError", str(error))
    assert attempt.answer == "x" * 1024
    assert (harness.delivery().state, harness.delivery().error) == ("scheduled", str(error))
    harness.failure(http_peer.url, attempt=8)
    assert harness.delivery().state == "dead_letter"
    assert [one.number for one in harness.attempts()] == [1, 2]


def test_a_response_that_is_no_text_is_logged_as_far_as_possible(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(500, {}, b"a\x00b\xff\xc3"))
    harness.failure(http_peer.url)

    assert harness.attempts()[0].answer == "ab��"


def test_our_own_faults_do_not_count_against_the_receiver(platform: Platform, http_peer: HttpPeer) -> None:
    harness = DeliveryHarness(platform.database)
    with pytest.raises(InvalidPayload):
        harness.deliver(http_peer.url, data={"n": float("nan")})
    with pytest.raises(ForbiddenAddress):
        harness.deliver("http://user:word@127.0.0.1/")

    assert harness.endpoints() == []
    assert http_peer.requests == []


def test_a_forbidden_address_is_logged_and_counts(platform: Platform, http_peer: HttpPeer) -> None:
    harness = DeliveryHarness(platform.database, allow_private=False)
    assert isinstance(harness.failure(http_peer.url), ForbiddenAddress)

    assert (harness.delivery().state, harness.attempts()[0].status) == ("failed", None)
    assert harness.endpoint().consecutive_failures == 1
    assert http_peer.requests == []


def test_urls_that_differ_in_query_and_spelling_are_one_receiver(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    at = f"127.0.0.1:{http_peer.port}"
    for number, url in enumerate(
        [f"http://{at}/h?t=1", f"http://{at}/h#x", f"http://{at}/a/../h", f"http://127。0。0。1:{http_peer.port}/h?t=2"]
    ):
        harness.deliver(url, id=f"d-{number}")
    harness.deliver(f"http://{at}/other", id="d-9")

    assert [one.url for one in harness.endpoints()] == [f"http://{at}/h", f"http://{at}/other"]


def test_a_receiver_that_only_fails_for_days_is_disabled_with_an_alert(
    harness: DeliveryHarness, http_peer: HttpPeer
) -> None:
    http_peer.always = HttpReply(500)
    harness.failure(http_peer.url)
    harness.age(failing_since=4.9, last_failure_at=1)
    harness.failure(http_peer.url, id="d-2")
    assert harness.endpoint().state == "enabled"
    harness.age(failing_since=0.2)
    harness.failure(http_peer.url, id="d-3")

    endpoint = harness.endpoint()
    assert (endpoint.state, endpoint.reason, endpoint.consecutive_failures) == ("disabled", "failing", 3)
    assert harness.alerts() == [("endpoint_disabled", endpoint.id)]
    refused = harness.failure(http_peer.url, id="d-4")
    assert (type(refused).__name__, refused.retryable) == ("EndpointDisabled", False)
    assert len(http_peer.requests) == 3
    assert (harness.delivery("d-4").state, harness.delivery("d-4").error) == ("failed", str(refused))
    assert harness.attempts("d-4") == []


def test_a_success_ends_the_series_of_failures(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(500), HttpReply(200), HttpReply(500))
    harness.failure(http_peer.url)
    harness.age(failing_since=6, last_failure_at=1)
    harness.deliver(http_peer.url, id="d-2")
    assert (harness.endpoint().failing_since, harness.endpoint().consecutive_failures) == (None, 0)
    harness.failure(http_peer.url, id="d-3")

    assert (harness.endpoint().state, harness.endpoint().consecutive_failures) == ("enabled", 1)


def test_a_long_pause_starts_a_new_series_of_failures(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.always = HttpReply(500)
    harness.failure(http_peer.url)
    harness.age(failing_since=30, last_failure_at=29)
    harness.failure(http_peer.url, id="d-2")

    assert (harness.endpoint().state, harness.endpoint().consecutive_failures) == ("enabled", 1)


def test_the_number_of_days_is_a_setting(platform: Platform, http_peer: HttpPeer) -> None:
    harness = DeliveryHarness(platform.database, disable_after_days=1)
    http_peer.always = HttpReply(500)
    harness.failure(http_peer.url)
    harness.age(failing_since=1)
    harness.failure(http_peer.url)

    assert harness.endpoint().state == "disabled"


def test_gone_disables_at_once_and_enabling_closes_the_alert(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(410))
    assert isinstance(harness.failure(http_peer.url), EndpointGone)
    endpoint = harness.endpoint()
    assert (endpoint.state, endpoint.reason, harness.delivery().state) == ("disabled", "gone", "failed")
    assert harness.alerts() == [("endpoint_disabled", endpoint.id)]

    harness.outbound_webhooks.enable(endpoint.id)

    assert harness.alerts() == []
    assert (harness.endpoint().state, harness.endpoint().reason, harness.endpoint().consecutive_failures) == (
        "enabled",
        None,
        0,
    )
    assert harness.deliver(http_peer.url, id="d-2").status == 200


def test_a_receiver_disabled_by_an_operator_has_no_alert_and_a_late_success_does_not_enable_it(
    harness: DeliveryHarness, http_peer: HttpPeer
) -> None:
    def disabled_meanwhile(_: HttpRequest) -> HttpReply:
        harness.outbound_webhooks.disable(harness.endpoint().id)
        return HttpReply(200)

    http_peer.reply_with(disabled_meanwhile)
    harness.deliver(http_peer.url)

    assert (harness.endpoint().state, harness.endpoint().reason, harness.alerts()) == ("disabled", "operator", [])


# --- failures on our side


def test_an_attempt_whose_worker_died_is_shown_as_lost_and_sent_again_under_its_id(
    harness: DeliveryHarness, http_peer: HttpPeer
) -> None:
    harness, died = DeliveryHarness(harness.database, max_in_flight=1), KeyboardInterrupt

    def dies(*_: Any, **__: Any) -> None:
        raise died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.outbound_webhooks, "_finish_attempt", lambda *_: None)
        patch.setattr(harness.outbound_webhooks._sender, "post", dies)
        with pytest.raises(KeyboardInterrupt):
            harness.deliver(http_peer.url)
    assert harness.attempts()[0].ended_at is None
    harness.deliver(http_peer.url, attempt=2)

    first, second = harness.attempts()
    assert (first.error_type, first.status, second.status) == ("WorkerLost", None, 200)
    assert http_peer.requests[0].headers["webhook-id"] == "d-1"
    assert harness.endpoint().consecutive_failures == 0


def test_an_attempt_that_is_cancelled_is_over_and_does_not_count_against_the_receiver(
    harness: DeliveryHarness, http_peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(*_: Any, **__: Any) -> None:
        raise TaskCancelled

    monkeypatch.setattr(harness.outbound_webhooks._sender, "post", cancelled)
    with pytest.raises(TaskCancelled):
        harness.deliver(http_peer.url)

    assert (harness.delivery().state, harness.attempts()[0].error_type) == ("cancelled", "TaskCancelled")
    assert harness.attempts()[0].ended_at is not None
    assert harness.endpoint().consecutive_failures == 0


def test_without_the_database_nothing_is_sent(
    platform: Platform, harness: DeliveryHarness, http_peer: HttpPeer
) -> None:
    with platform.without_database(), pytest.raises(DatabaseUnavailable):
        harness.deliver(http_peer.url)

    assert http_peer.requests == []


def test_an_outage_of_the_database_does_not_undo_a_delivery(
    platform: Platform, harness: DeliveryHarness, http_peer: HttpPeer
) -> None:
    away = platform.without_database()

    def goes(_: HttpRequest) -> HttpReply:
        away.__enter__()
        return HttpReply(200)

    http_peer.reply_with(goes)
    try:
        assert harness.deliver(http_peer.url).status == 200
    finally:
        away.__exit__(None, None, None)
    assert harness.attempts()[0].ended_at is None


def test_only_the_newest_attempts_are_kept(
    harness: DeliveryHarness, http_peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS_KEPT", 3)
    for _ in range(5):
        harness.deliver(http_peer.url)

    assert [one.number for one in harness.attempts()] == [3, 4, 5]
    assert harness.delivery().attempts == 5


def test_another_payload_under_the_same_id_is_sent_unchanged(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    harness.deliver(http_peer.url)
    harness.deliver(http_peer.url, data={"n": 2})

    first, second = (json.loads(asked.body) for asked in http_peer.requests)
    assert (first["data"], second["data"]) == ({"n": 1}, {"n": 2})
    assert first["timestamp"] == second["timestamp"]


def test_no_secret_and_no_signature_is_in_the_log(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(500))
    with pytest.raises(UpstreamError) as failed:
        harness.deliver(http_peer.url + "/h?token=hidden")

    (attempt,) = harness.attempts()
    logged = f"{attempt.error} {attempt.request_headers} {harness.delivery().error} {harness.endpoint().url}"
    text = f"{failed.value!r} {logged}"
    signature = http_peer.requests[0].headers["webhook-signature"]
    secret = harness.secret(http_peer.url)
    assert not any(word in text for word in (secret, secret.removeprefix("whsec_"), signature, "hidden"))
