"""How many outbound webhooks one receiver gets at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event, Lock

import pytest

from laneway.platform.db.models import OutboundAttempt
from laneway.platform.webhooks.outbound_webhooks import EndpointBusy
from tests.fixtures.http_peer import Asked, HttpPeer, Says
from tests.fixtures.platform import Platform
from tests.fixtures.receiving import Desk
from tests.fixtures.waiting import wait_until


@pytest.fixture
def desk(platform: Platform) -> Desk:
    return Desk(platform.database)


def test_a_slow_receiver_has_only_so_many_deliveries_in_flight(platform: Platform, http_peer: HttpPeer) -> None:
    desk, go = Desk(platform.database, slots=3), Event()

    def slow(_: Asked) -> Says:
        go.wait(20)
        return Says(200)

    http_peer.will(slow, slow)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(desk.deliver, http_peer.url, id=f"d-{number}") for number in (1, 2)]
        wait_until(lambda: len(http_peer.asked) == 2, seconds=10)
        delays = [busy(desk.fails(http_peer.url, id="d-3")) for _ in range(4)]
        with HttpPeer() as other:
            assert desk.deliver(other.url, id="d-4").status == 200
        go.set()
        assert [one.result().status for one in running] == [200, 200]

    assert all(2**number / 2 <= delay <= 2**number for number, delay in enumerate(delays))
    assert (desk.delivery("d-3").state, desk.delivery("d-3").attempts) == ("scheduled", 0)
    assert desk.deliver(http_peer.url, id="d-3").status == 200
    assert desk.delivery("d-3").put_off == 0


def busy(error: Exception) -> float:
    assert isinstance(error, EndpointBusy)
    assert error.retryable is True
    return error.delay


def test_a_delay_for_a_busy_receiver_is_bounded(desk: Desk, http_peer: HttpPeer) -> None:
    def put_off(asked: Asked) -> Says:
        delays = [busy(desk.fails(http_peer.url, id="d-2")) for _ in range(12)]
        assert 150 <= delays[-1] <= 300
        return Says(200)

    desk = Desk(desk.database, max_in_flight=1)
    http_peer.will(put_off)

    assert desk.deliver(http_peer.url).status == 200


def test_a_receiver_that_failed_three_times_gets_one_at_a_time(desk: Desk, http_peer: HttpPeer) -> None:
    http_peer.will(Says(500), Says(500), Says(500))
    for number in (1, 2, 3):
        desk.fails(http_peer.url, id=f"d-{number}")

    def second(_: Asked) -> Says:
        busy(desk.fails(http_peer.url, id="d-5"))
        return Says(200)

    http_peer.will(second)
    assert desk.deliver(http_peer.url, id="d-4").status == 200


def test_first_deliveries_at_one_moment_make_one_receiver_and_keep_its_limit(
    platform: Platform, http_peer: HttpPeer
) -> None:
    desk, lock, now, most = Desk(platform.database, slots=3), Lock(), 0, 0

    def counted(_: Asked) -> Says:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        http_peer.pause(0.05)
        with lock:
            now -= 1
        return Says(200)

    def until_delivered(number: int) -> bool:
        try:
            return desk.deliver(http_peer.url, id=f"d-{number}").status == 200
        except EndpointBusy:
            return False

    http_peer.always = counted
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(until_delivered, range(16)))

    assert any(outcomes)
    assert 1 <= most <= 2
    assert len(desk.endpoints()) == 1
    assert [desk.delivery(f"d-{number}").attempts for number in range(16)] == [int(done) for done in outcomes]


def test_what_a_dead_worker_had_in_flight_counts_only_for_a_while(desk: Desk, http_peer: HttpPeer) -> None:
    desk = Desk(desk.database, max_in_flight=1)
    desk.deliver(http_peer.url)
    with desk.database.transaction() as session:
        for attempt in session.query(OutboundAttempt):
            attempt.ended_at = None
    busy(desk.fails(http_peer.url, id="d-2"))
    with desk.database.transaction() as session:
        for attempt in session.query(OutboundAttempt):
            attempt.started_at -= timedelta(seconds=40)

    assert desk.deliver(http_peer.url, id="d-2").status == 200
