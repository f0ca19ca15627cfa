"""Outbound webhooks through real processes: a worker that sends them, a receiver that verifies them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Lock

import pytest
from standardwebhooks import Webhook

from laneway.schemas.task import TaskState
from tests.fixtures.http_peer import HttpPeer, HttpReply, HttpRequest
from tests.fixtures.receiving import register_receiver, webhook
from tests.fixtures.site import Site, running_site
from tests.fixtures.waiting import wait_until


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation that may send to this machine."""
    folder: Path = tmp_path_factory.mktemp("site")
    with running_site(
        folder,
        OUTBOUND_ALLOW_PRIVATE="true",
    ) as site:
        yield site


@pytest.fixture
def secret(site: Site, http_peer: HttpPeer) -> str:
    """The secret of the destination at the peer."""
    return register_receiver(site.services.destinations, http_peer.url)


class SlowReceiver:
    """Responds after a delay, and counts its concurrent requests."""

    def __init__(self, peer: HttpPeer, *, seconds: float) -> None:
        self._peer, self._seconds, self._lock, self._now, self.most = peer, seconds, Lock(), 0, 0

    def __call__(self, _: HttpRequest) -> HttpReply:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._peer.pause(self._seconds)
        with self._lock:
            self._now -= 1
        return HttpReply(200)


def test_a_failed_delivery_is_retried_while_a_slow_receiver_leaves_room_for_others(
    site: Site, http_peer: HttpPeer, secret: str
) -> None:
    new = site.services.destinations.rotate(f"127.0.0.1-{http_peer.port}", overlap=timedelta(hours=1)).secret
    with HttpPeer() as slow_peer:
        register_receiver(site.services.destinations, slow_peer.url)
        slow = slow_peer.always = SlowReceiver(slow_peer, seconds=1)
        site.worker(queues="webhooks", concurrency=2)
        http_peer.reply_with(HttpReply(500))
        waiting = [
            site.submit("send_webhook_response_task", webhook(slow_peer.url, data={"n": number})) for number in range(4)
        ]
        failing = site.submit("send_webhook_response_task", webhook(http_peer.url))
        run = site.until(failing)
        assert {one.state for one in site.until_all_over(waiting)} == {TaskState.COMPLETED}
        assert slow.most == 1, "one of two slots is kept for others"

    assert run.state == TaskState.COMPLETED
    first, second = http_peer.requests
    for asked in (first, second):
        assert asked.headers["webhook-id"] == failing
        for each in (secret, new):
            assert Webhook(each).verify(asked.body, asked.headers)["data"] == {"n": 1}
    assert first.body == second.body
    before, after = site.services.delivery_log.show(failing).attempts
    assert (before.status, after.status) == (500, 200)
    assert before.ended_at is not None
    assert 5 <= (after.started_at - before.ended_at).total_seconds() < 8, "the schedule's first delay"


def test_a_delivery_whose_worker_was_killed_is_repeated_with_the_same_id(site: Site, http_peer: HttpPeer) -> None:
    register_receiver(site.services.destinations, http_peer.url)
    http_peer.reply_with(HttpReply(200, delay=20))
    first = site.worker("first", queues="webhooks", concurrency=1)
    id = site.submit("send_webhook_response_task", webhook(http_peer.url))
    wait_until(lambda: http_peer.requests, seconds=20)
    first.kill()
    site.worker("second", queues="webhooks", concurrency=1)

    assert site.until(id).state == TaskState.COMPLETED
    assert [asked.headers["webhook-id"] for asked in http_peer.requests] == [id, id]
    assert [one.error_type for one in site.services.delivery_log.show(id).attempts] == ["WorkerLost", None]


def test_a_loopback_address_is_refused_unless_the_settings_allow_it(site: Site, http_peer: HttpPeer) -> None:
    register_receiver(site.services.destinations, http_peer.url)
    site.worker(queues="webhooks", concurrency=1, OUTBOUND_ALLOW_PRIVATE="false")
    run = site.until(site.submit("send_webhook_response_task", webhook(http_peer.url)))

    assert (run.state, run.error_type, run.attempts) == (TaskState.FAILED, "ForbiddenAddress", 1)
    assert http_peer.requests == []
