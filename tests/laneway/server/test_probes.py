"""The probes against real servers: a process is ready when it says so itself, not because of an older process."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Generator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from celery.utils.nodenames import host_format

from app.core.settings import Settings
from laneway.platform.clock import now
from laneway.platform.db.migrate import upgrade
from laneway.platform.db.models import FleetLease, Worker
from laneway.platform.db.queries.schedules import LEASE
from laneway.platform.db.session import Database
from laneway.platform.errors import ConfigError
from laneway.server import health
from laneway.server.probes import Probe, beat_leads_or_waits, broker_answers, http_answers, worker_reports
from laneway.server.valkey import embedded_argv
from tests.fixtures.valkey import RedisUrls, free_port
from tests.fixtures.waiting import wait_until
from tests.laneway.server.conftest import MakeSettings

ALL_ADDRESSES = ".".join("0000")


def is_ready(probe: Probe, *, ago: float = 0) -> bool:
    """The result of a probe for a process that was started `ago` seconds ago."""

    async def ask() -> bool:
        return await probe(now() - timedelta(seconds=ago))

    return asyncio.run(ask())


class OnePath(BaseHTTPRequestHandler):
    """Responds with 200 at one path, and with 503 elsewhere."""

    healthy_path = "/well"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == self.healthy_path else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def web() -> Generator[int]:
    with HTTPServer(("127.0.0.1", 0), OnePath) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        OnePath.healthy_path = "/well"
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(make_settings: MakeSettings, redis_urls: RedisUrls) -> Settings:
    made = make_settings(CELERY_BROKER_URL=redis_urls.broker, CELERY_RESULT_BACKEND=redis_urls.backend)
    upgrade(made.storage.url)
    return made


def test_only_status_200_is_ready(web: int) -> None:
    assert is_ready(http_answers("127.0.0.1", web, "/well"))
    assert not is_ready(http_answers("127.0.0.1", web, "/ill"))
    assert not is_ready(http_answers("127.0.0.1", free_port(), "/well"))


def test_the_health_check_of_a_container_probes_its_own_process(
    settings: Settings, web: int, make_settings: MakeSettings
) -> None:
    served = make_settings(AUTHENTICATION="on", API_HOST=ALL_ADDRESSES, API_PORT=str(web))
    OnePath.healthy_path = "/health/ready"
    assert health.is_healthy("api", served)
    OnePath.healthy_path = "/healthcheck"
    assert not health.is_healthy("api", served)
    assert health.is_healthy("flower", make_settings(API_PORT=str(free_port()), FLOWER_PORT=str(web)))
    assert not health.is_healthy("flower", make_settings(FLOWER_PORT=str(free_port())))
    assert not health.is_healthy("worker", settings)
    assert not health.is_healthy("beat", settings)
    OnePath.healthy_path = "/health/live"
    assert health.is_healthy("worker", make_settings(PROBE_PORT=str(web)))
    assert not health.is_healthy("beat", make_settings(PROBE_PORT=str(free_port())))


@pytest.mark.parametrize("port", ["", "9"])
def test_the_health_check_knows_the_processes(make_settings: MakeSettings, port: str) -> None:
    with pytest.raises(ConfigError, match="There is no process 'worke'; there are worker, "):
        health.is_healthy("worke", make_settings(PROBE_PORT=port) if port else make_settings())


def test_a_broker_is_ready_when_it_answers(make_settings: MakeSettings, redis_urls: RedisUrls) -> None:
    embedded = make_settings(REDIS_PORT=str(free_port()))
    server = subprocess.Popen(embedded_argv(embedded))
    try:
        wait_until(lambda: is_ready(broker_answers(embedded)), seconds=10)
    finally:
        server.kill()
        server.wait()
    assert not is_ready(broker_answers(make_settings(REDIS_PORT=str(free_port()))))


def test_a_worker_is_ready_when_it_has_reported_since_its_start(settings: Settings) -> None:
    probe = worker_reports(settings, "worker@%h")
    assert not is_ready(probe)
    database = Database(settings.storage.url)
    with database.transaction() as session:
        seen_at = now() - timedelta(seconds=5)
        session.add(Worker(name=host_format("worker@%h"), queues=["crm"], started_at=seen_at, seen_at=seen_at))
    database.close()

    assert is_ready(probe, ago=10)
    assert not is_ready(probe, ago=0)  # an older worker wrote that report
    assert not is_ready(worker_reports(settings, "bulk@%h"), ago=10)


def test_a_worker_is_not_ready_before_the_tables_exist(make_settings: MakeSettings) -> None:
    assert not is_ready(worker_reports(make_settings(), "worker@%h"))


def lease_of(settings: Settings, holder: str, renewals: int) -> None:
    database = Database(settings.storage.url)
    with database.transaction() as session:
        session.merge(FleetLease(name=LEASE, holder=holder, renewals=renewals))
    database.close()


def test_beat_is_ready_when_the_lease_changes_hands(settings: Settings) -> None:
    async def answers() -> list[bool]:
        probe, since = beat_leads_or_waits(settings), now()
        lease_of(settings, "a beat that was killed", 5)
        before = await probe(since)
        lease_of(settings, "ours", 6)
        return [before, await probe(since)]

    assert asyncio.run(answers()) == [False, True]


def test_beat_is_ready_as_a_standby_when_another_beat_renews_the_lease(settings: Settings) -> None:
    async def answers(ago: float) -> list[bool]:
        probe, since = beat_leads_or_waits(settings), now() - timedelta(seconds=ago)
        before = await probe(since)
        lease_of(settings, "a beat on another machine", 6)
        return [before, await probe(since)]

    lease_of(settings, "a beat on another machine", 5)
    assert asyncio.run(answers(5)) == [False, False]
    lease_of(settings, "a beat on another machine", 5)
    assert asyncio.run(answers(60)) == [False, True]


def test_beat_is_not_ready_before_the_tables_exist(make_settings: MakeSettings) -> None:
    assert not is_ready(beat_leads_or_waits(make_settings()), ago=60)
