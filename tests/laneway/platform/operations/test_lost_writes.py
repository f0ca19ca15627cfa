"""A server that evicts keys, and a failover that loses the last writes: no accepted task is lost."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from laneway.engine import EvictionWarning, MessageState
from laneway.engine.keys import NAMES
from laneway.engine.message import pack_id
from laneway.platform.db.session import Database
from laneway.platform.operations.maintenance import Maintenance
from laneway.schemas.task import TaskState
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Environment, MovableClock, Platform, celery_on, make_platform, settings_for
from tests.fixtures.valkey import RedisUrls, RunningValkey
from tests.fixtures.waiting import wait_until
from tests.laneway.engine.servers import watched_pair
from tests.laneway.platform.operations.lost_data import LATER, QUEUE, audit, maintenance, run, valkey

__all__ = ["maintenance", "valkey"]


@pytest.fixture
def evicting(valkey: RunningValkey, redis_urls: RedisUrls) -> Generator[redis.Redis]:
    """The server with `allkeys-lru` and little memory to spare."""
    with redis.Redis.from_url(valkey.url(5)) as client:
        client.flushdb()
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", used + 4_000_000)
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
        client.flushdb()


def evict_all(client: redis.Redis) -> None:
    """Write until the server has evicted every other key."""
    for number in range(100_000):
        client.set(f"filler:{number}", b"x" * 20_000)
        if number % 50 == 0 and not client.info("keyspace").get("db0"):
            return
    pytest.fail("the server has evicted nothing")


@pytest.mark.filterwarnings("ignore::laneway.engine.EvictionWarning")
def test_what_an_evicting_server_deletes_is_sent_again(
    platform: Platform, evicting: redis.Redis, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    with pytest.warns(EvictionWarning, match="allkeys-lru"):
        ids = [platform.message(f"c-{number % 3}") for number in range(20)]
    evict_all(evicting)
    evicting.config_set("maxmemory", 0)
    movable_clock.forward(LATER)

    maintenance.reconcile()

    assert set(platform.places()) == set(ids)
    assert audit(platform).balanced
    assert sorted(run(platform) for _ in ids) == sorted(ids)


@ONE_DATABASE
@pytest.mark.parametrize("name", NAMES)
def test_whichever_key_is_evicted_every_task_runs_once(
    platform: Platform, maintenance: Maintenance, movable_clock: MovableClock, name: str
) -> None:
    platform.broker.prepare()
    running = platform.message("c-0")
    attempt = platform.start()
    ids = [platform.message("c-1"), platform.message("c-1"), platform.message("c-2"), platform.message("c-3", delay=1)]
    platform.recorder.catch_up()
    platform.engine.runner.call("DEL", platform.engine.keys.key(QUEUE, name))
    platform.broker.prepare()  # as the maintenance does every 5 s
    movable_clock.forward(LATER)
    audit(platform, repair=True)
    maintenance.reconcile()

    assert set(platform.places()) == {running, *ids}
    if platform.places()[running] is MessageState.LEASED:
        platform.end(attempt)
    ran: list[str] = []
    wait_until(lambda: ran.append(platform.work(QUEUE) or "") or platform.places() == {}, seconds=20)
    assert sorted(filter(None, ran)) in (sorted(ids), sorted([running, *ids]))
    platform.recorder.catch_up()
    assert {run.state for run in platform.rows()} == {TaskState.COMPLETED}
    assert audit(platform).balanced


def test_a_failover_that_loses_the_last_writes_loses_no_task_and_repeats_none(
    environment: Environment, sqlite_database: Database, movable_clock: MovableClock, tmp_path: Path
) -> None:
    with watched_pair(tmp_path) as pair:
        sentinel = redis.Redis(port=pair.sentinels[0], decode_responses=True)
        port = int(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])
        with on_port(port, environment, sqlite_database, tmp_path) as platform:
            ended = platform.message("c-1")
            attempt = platform.start()
            kept = platform.message("c-2")
            platform.recorder.catch_up()
            with redis.Redis(port=port) as master, redis.Redis(port=pair.replica) as replica:
                master.wait(1, 5_000)
                replica.config_set("masterauth", "wrong")  # the replica gets no further writes
                master.client_kill_filter(_type="replica")
                wait_until(lambda: replica.info("replication")["master_link_status"] == "down", seconds=10)
            assert platform.end(attempt)
            lost = platform.message("c-3")
            assert platform.state(ended) == TaskState.COMPLETED
        pair.kill_master()
        wait_until(lambda: promoted(sentinel) == pair.replica, seconds=30)
        sentinel.close()
        movable_clock.forward(LATER)
        with on_port(pair.replica, environment, sqlite_database, tmp_path) as platform:
            assert platform.places() == {ended: MessageState.LEASED, kept: MessageState.READY}
            platform.maintenance().reconcile()

            assert set(platform.sent()) == {kept, lost}
            assert audit(platform).balanced
            leased = platform.engine.keys.key(QUEUE, "leased")
            platform.engine.runner.call("ZADD", leased, 1, pack_id(ended))  # its lease is over
            assert sorted(run(platform) for _ in range(2)) == sorted([kept, lost])
            assert platform.places() == {}
            assert audit(platform).by_state == {TaskState.COMPLETED: 3}


def promoted(sentinel: Any) -> int:
    return int(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])


@contextmanager
def on_port(port: int, environment: Environment, database: Database, folder: Path) -> Generator[Platform]:
    """The platform on the server that listens on this port."""
    server = RunningValkey(folder, port=port)
    urls = RedisUrls(server.url(0), server.url(1), server)
    settings = settings_for(environment, database, urls, folder=folder)
    with celery_on(settings) as app:
        yield make_platform(settings, app, database, valkey=server)
