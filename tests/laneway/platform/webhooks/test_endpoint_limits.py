"""How many deliveries one receiver gets at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event, Lock

import pytest

from laneway.platform.db.models import OutboundAttempt
from laneway.platform.webhooks.outbound_webhooks import EndpointBusy
from tests.fixtures.http_peer import HttpPeer, HttpReply, HttpRequest
from tests.fixtures.platform import Platform
from tests.fixtures.receiving import DeliveryHarness
from tests.fixtures.waiting import wait_until


@pytest.fixture
def harness(platform: Platform) -> DeliveryHarness:
    return DeliveryHarness(platform.database)


def test_a_slow_receiver_has_a_limited_number_of_deliveries_in_flight(platform: Platform, http_peer: HttpPeer) -> None:
    harness, go = DeliveryHarness(platform.database, slots=3), Event()

    def slow(_: HttpRequest) -> HttpReply:
        go.wait(20)
        return HttpReply(200)

    http_peer.reply_with(slow, slow)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(harness.deliver, http_peer.url, id=f"d-{number}") for number in (1, 2)]
        wait_until(lambda: len(http_peer.requests) == 2, seconds=10)
        delays = [busy(harness.failure(http_peer.url, id="d-3")) for _ in range(4)]
        with HttpPeer() as other:
            assert harness.deliver(other.url, id="d-4").status == 200
        go.set()
        assert [one.result().status for one in running] == [200, 200]

    assert all(2**number / 2 <= delay <= 2**number for number, delay in enumerate(delays))
    assert (harness.delivery("d-3").state, harness.delivery("d-3").attempts) == ("scheduled", 0)
    assert harness.deliver(http_peer.url, id="d-3").status == 200
    assert harness.delivery("d-3").put_off == 0


def busy(error: Exception) -> float:
    assert isinstance(error, EndpointBusy)
    assert error.retryable is True
    return error.delay


def test_a_delay_for_a_busy_receiver_is_bounded(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    def postponed(asked: HttpRequest) -> HttpReply:
        delays = [busy(harness.failure(http_peer.url, id="d-2")) for _ in range(12)]
        assert 150 <= delays[-1] <= 300
        return HttpReply(200)

    harness = DeliveryHarness(harness.database, max_in_flight=1)
    http_peer.reply_with(postponed)

    assert harness.deliver(http_peer.url).status == 200


def test_a_receiver_that_failed_three_times_gets_one_at_a_time(harness: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(500), HttpReply(500), HttpReply(500))
    for number in (1, 2, 3):
        harness.failure(http_peer.url, id=f"d-{number}")

    def second(_: HttpRequest) -> HttpReply:
        busy(harness.failure(http_peer.url, id="d-5"))
        return HttpReply(200)

    http_peer.reply_with(second)
    assert harness.deliver(http_peer.url, id="d-4").status == 200


def test_concurrent_first_deliveries_make_one_receiver_and_keep_its_limit(
    platform: Platform, http_peer: HttpPeer
) -> None:
    harness, lock, now, most = DeliveryHarness(platform.database, slots=3), Lock(), 0, 0

    def counted(_: HttpRequest) -> HttpReply:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        http_peer.pause(0.05)
        with lock:
            now -= 1
        return HttpReply(200)

    def until_delivered(number: int) -> bool:
        try:
            return harness.deliver(http_peer.url, id=f"d-{number}").status == 200
        except EndpointBusy:
            return False

    http_peer.always = counted
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(until_delivered, range(16)))

    assert any(outcomes)
    assert 1 <= most <= 2
    assert len(harness.endpoints()) == 1
    assert [harness.delivery(f"d-{number}").attempts for number in range(16)] == [int(done) for done in outcomes]


def test_attempts_of_a_dead_worker_count_as_in_flight_for_a_limited_time(
    harness: DeliveryHarness, http_peer: HttpPeer
) -> None:
    harness = DeliveryHarness(harness.database, max_in_flight=1)
    harness.deliver(http_peer.url)
    with harness.database.transaction() as session:
        for attempt in session.query(OutboundAttempt):
            attempt.ended_at = None
    busy(harness.failure(http_peer.url, id="d-2"))
    with harness.database.transaction() as session:
        for attempt in session.query(OutboundAttempt):
            attempt.started_at -= timedelta(seconds=40)

    assert harness.deliver(http_peer.url, id="d-2").status == 200
