"""The probes, against real servers: a part is ready when it shows so itself, not when something old says so."""

# redis-py and Celery type their functions in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import redis
from celery.utils.nodenames import host_format

from app.core.settings import Settings
from laneway.platform.clock import now
from laneway.platform.db.migrate import upgrade
from laneway.platform.db.models import Worker
from laneway.platform.db.session import Database
from laneway.server import health
from laneway.server.probes import BEAT_LOCK, Probe, beat_holds_lock, broker_answers, http_answers, worker_reports
from tests.fixtures.valkey import RedisUrls, free_port
from tests.laneway.server.conftest import MakeSettings

ALL_ADDRESSES = ".".join("0000")


def asked(probe: Probe, *, ago: float = 0) -> bool:
    """The probe's answer for a part that was started so many seconds ago."""

    async def ask() -> bool:
        return await probe(now() - timedelta(seconds=ago))

    return asyncio.run(ask())


class Half(BaseHTTPRequestHandler):
    """Answers 200 at one path, and 503 elsewhere."""

    well = "/well"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == self.well else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Generator[int]:
    with HTTPServer(("127.0.0.1", 0), Half) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Half.well = "/well"
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(make_settings: MakeSettings, redis_urls: RedisUrls) -> Settings:
    made = make_settings(CELERY_BROKER_URL=redis_urls.broker, CELERY_RESULT_BACKEND=redis_urls.backend)
    upgrade(made.storage.url)
    return made


def test_only_200_is_ready(web: int) -> None:
    assert asked(http_answers("127.0.0.1", web, "/well"))
    assert not asked(http_answers("127.0.0.1", web, "/ill"))
    assert not asked(http_answers("127.0.0.1", free_port(), "/well"))


def test_a_containers_health_is_asked_of_the_right_part(
    settings: Settings, web: int, make_settings: MakeSettings
) -> None:
    served = make_settings(API_HOST=ALL_ADDRESSES, API_PORT=str(web))
    Half.well = "/health/ready"
    assert health.well("api", served)
    Half.well = "/healthcheck"
    assert not health.well("api", served)
    assert health.well("flower", make_settings(API_PORT=str(free_port()), FLOWER_PORT=str(web)))
    assert not health.well("flower", make_settings(FLOWER_PORT=str(free_port())))
    assert not health.well("worker", settings)
    assert not health.well("beat", settings)


def test_a_broker_is_ready_when_it_answers(make_settings: MakeSettings, redis_urls: RedisUrls) -> None:
    assert asked(broker_answers(make_settings(REDIS_PORT=str(redis_urls.valkey.port))))
    assert not asked(broker_answers(make_settings(REDIS_PORT=str(free_port()))))


def test_a_worker_is_ready_when_it_reported_since_its_start(settings: Settings) -> None:
    probe = worker_reports(settings, "worker@%h")
    assert not asked(probe)
    database = Database(settings.storage.url)
    with database.transaction() as session:
        seen_at = now() - timedelta(seconds=5)
        session.add(Worker(name=host_format("worker@%h"), queues=["crm"], started_at=seen_at, seen_at=seen_at))
    database.close()

    assert asked(probe, ago=10)
    assert not asked(probe, ago=0)  # that was the one before
    assert not asked(worker_reports(settings, "bulk@%h"), ago=10)


def test_a_worker_is_not_ready_without_a_table_to_report_in(make_settings: MakeSettings) -> None:
    assert not asked(worker_reports(make_settings(), "worker@%h"))


def test_beat_is_ready_when_it_took_the_lock(settings: Settings) -> None:
    async def answers() -> list[bool]:
        probe, since = beat_holds_lock(settings), now()
        with redis.Redis.from_url(settings.redis.broker_url) as client:
            client.set(BEAT_LOCK, "of one that was killed")
            before = await probe(since)
            client.set(BEAT_LOCK, "ours")
            return [before, await probe(since)]

    assert asyncio.run(answers()) == [False, True]


def test_beat_is_ready_as_a_stand_by_when_another_holds_the_lock_for_long(settings: Settings) -> None:
    assert not asked(beat_holds_lock(settings), ago=60)
    with redis.Redis.from_url(settings.redis.broker_url) as client:
        client.set(BEAT_LOCK, "of another machine")

    assert not asked(beat_holds_lock(settings), ago=5)
    assert asked(beat_holds_lock(settings), ago=60)


def test_nothing_is_ready_without_a_broker(make_settings: MakeSettings) -> None:
    assert not asked(beat_holds_lock(make_settings(REDIS_PORT=str(free_port()))), ago=60)
