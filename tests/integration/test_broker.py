"""The broker, as the platform sees it, over a real Valkey."""

# redis-py is typed in part only; the scale of priorities is the broker's own affair.
# pyright: reportUnknownMemberType=false, reportPrivateUsage=false

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from app.core import catalog
from app.core.config import load_settings
from app.core.errors import BrokerUnavailable
from app.core.queues import Priority
from app.db.session import Database
from app.services.broker import Broker
from tests.fixtures.platform import Environment, Platform, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


def test_the_more_urgent_task_is_delivered_first(platform: Platform) -> None:
    ids = {priority: platform.chore(priority=priority) for priority in sorted(Priority)}

    assert [platform.take("maintenance") for _ in Priority] == [
        ids[Priority.CRITICAL], ids[Priority.HIGH], ids[Priority.NORMAL], ids[Priority.LOW],
    ]  # fmt: skip
    assert platform.take("maintenance") is None


def test_priorities_lie_in_lists_of_their_own(platform: Platform) -> None:
    for priority in Priority:
        platform.chore(priority=priority)

    with redis.Redis.from_url(platform.settings.redis.broker_url) as client:
        lengths = {name: client.llen(name) for name in ("maintenance", *(f"maintenance:{step}" for step in (3, 6, 9)))}
    assert lengths == {"maintenance": 1, "maintenance:3": 1, "maintenance:6": 1, "maintenance:9": 1}
    assert platform.broker.size("maintenance") == 4


def test_tasks_of_one_priority_are_delivered_in_the_order_of_submission(platform: Platform) -> None:
    ids = [platform.chore() for _ in range(5)]

    assert [platform.take("maintenance") for _ in ids] == ids


def test_size_and_ids_count_what_waits(platform: Platform) -> None:
    assert platform.broker.size("webhooks") == 0
    assert platform.broker.waiting_ids("webhooks") == set()
    urgent, later = platform.chore(priority=Priority.CRITICAL), platform.chore(priority=Priority.LOW)

    assert platform.broker.size("maintenance") == 2
    assert platform.broker.waiting_ids("maintenance") == {urgent, later}
    platform.take("maintenance")
    assert platform.broker.size("maintenance") == 1
    assert platform.broker.waiting_ids("maintenance") == {later}


def test_a_message_that_nobody_can_read_does_not_hide_the_others(platform: Platform) -> None:
    id = platform.chore()
    with redis.Redis.from_url(platform.settings.redis.broker_url) as client:
        client.lpush("maintenance:6", b"not json", b'{"headers": null}', b"[]", b"\xff")

    assert platform.broker.waiting_ids("maintenance") == {id}


def test_ping_says_whether_the_broker_answers(platform: Platform) -> None:
    platform.broker.ping()
    platform.valkey.stop()
    began = time.monotonic()

    with pytest.raises(BrokerUnavailable):
        platform.broker.ping()

    assert time.monotonic() - began < 10
    platform.valkey.start()
    platform.broker.ping()


@pytest.mark.parametrize("call", ["size", "waiting_ids", "ping"])
def test_every_question_to_a_broker_that_is_away_fails_quickly(platform: Platform, call: str) -> None:
    platform.valkey.stop()
    began = time.monotonic()

    with pytest.raises(BrokerUnavailable):
        getattr(platform.broker, call)(*([] if call == "ping" else ["webhooks"]))

    assert time.monotonic() - began < 10


def test_a_password_in_the_address_is_not_told(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path
) -> None:
    broker, backend = (
        url.replace("redis://", "redis://user:hunter2@") for url in (redis_urls.broker, redis_urls.backend)
    )
    urls = RedisUrls(broker, backend, redis_urls.valkey)
    settings = settings_for(environment, platform_database, urls, folder=tmp_path)
    with celery_on(settings) as app, pytest.raises(BrokerUnavailable) as refused:
        Broker(app).ping()

    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(refused.value)


def test_publishing_does_not_subscribe_to_results(platform: Platform) -> None:
    with redis.Redis.from_url(platform.settings.redis.result_url) as client:
        client.config_resetstat()
        for _ in range(5):
            platform.chore()
        commands = client.info("commandstats")

    assert "cmdstat_lpush" in commands
    assert not [name for name in commands if "subscribe" in name]


def test_many_threads_publish_at_once(platform: Platform) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(platform.chore, (f"chore-{number}" for number in range(80))))

    assert sorted(platform.sent("maintenance")) == sorted(ids)


def test_the_priority_scale_is_turned_for_amqp(environment: Environment) -> None:
    """In AMQP 9 goes first; nothing is sent here, the scale is looked at."""
    environment(CELERY_BROKER_URL="amqp://127.0.0.1//")
    with celery_on(load_settings()) as app:
        assert [Broker(app)._priority(priority) for priority in Priority] == [0, 3, 6, 9]


def test_a_task_reaches_the_queue_that_the_catalog_says(platform: Platform) -> None:
    id = platform.tasks.submit(catalog.ANALYTICS_REPORT, {"hours": 2}).task_id

    assert platform.sent("analytics") == [id]
