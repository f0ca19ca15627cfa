"""Connections to servers: TLS, socket files, users with few rights, Sentinel, several addresses, older versions."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.connection import Connection

from laneway.engine import Engine, InvalidUrl, Message, ServerLost
from tests.fixtures.certificates import self_signed
from tests.fixtures.valkey import RedisUrls, RunningValkey, free_port
from tests.laneway.engine.servers import WatchedPair, redis_binary, server, tls_front, watched_pair
from tests.laneway.worker.workers import Start, app, broker, start, wait_for

__all__ = ["app", "broker", "start"]
APP = "tests.laneway.worker.feature_app"
HARMLESS = ("+@all", "-@admin", "-@dangerous")
ENGINE_RIGHTS = ("~laneway:*", "&laneway:*", *HARMLESS, "+info")
RESULT_RIGHTS = ("~celery-*", "&celery-*", *HARMLESS)


@pytest.fixture
def redis_urls(request: pytest.FixtureRequest, valkey: RunningValkey, tmp_path: Path) -> Generator[RedisUrls]:
    """Broker and results, with the connection that the parameter names."""
    valkey.flush(0, 1)
    way, port = getattr(request, "param", "plain"), valkey.port
    if way == "tls":
        cert, key = self_signed(tmp_path, name="127.0.0.1", alternative="IP:127.0.0.1")
        with tls_front(port, cert, key) as secure:
            query = f"?ssl_cert_reqs=required&ssl_ca_certs={cert}"
            yield RedisUrls(f"rediss://127.0.0.1:{secure}/0{query}", f"rediss://127.0.0.1:{secure}/1{query}", valkey)
    elif way == "unix":
        with server(tmp_path, "--unixsocket", str(tmp_path / "s")):
            yield RedisUrls(f"unix://{tmp_path}/s?db=0", f"socket://{tmp_path}/s?virtual_host=1", valkey)
    elif way == "user":
        with redis.Redis(port=port) as admin:
            admin.execute_command("ACL", "SETUSER", "lane:way", "reset", "on", ">p@ss/:word", *ENGINE_RIGHTS)
            admin.execute_command("ACL", "SETUSER", "results", "reset", "on", ">secret", *RESULT_RIGHTS)
            results = f"redis://results:secret@127.0.0.1:{port}/1"
            yield RedisUrls(f"redis://lane%3Away:p%40ss%2F%3Aword@127.0.0.1:{port}/0", results, valkey)
            admin.execute_command("ACL", "DELUSER", "lane:way", "results")
    elif way == "redis":
        with server(tmp_path, binary=redis_binary()) as other:
            yield RedisUrls(f"redis://127.0.0.1:{other}/0", f"redis://127.0.0.1:{other}/1", valkey)
    elif way == "several":
        nobody = free_port()
        yield RedisUrls(f"redis://127.0.0.1:{nobody}/0;{valkey.url(0)}", valkey.url(1), valkey)
    elif way == "sentinel":
        hosts = [f"sentinel://127.0.0.1:{port}" for port in request.getfixturevalue("pair").sentinels]
        yield RedisUrls(f"{';'.join(hosts)}/0", ";".join(f"{host}/1" for host in hosts), valkey)
    else:
        yield RedisUrls(valkey.url(0), valkey.url(1), valkey)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[WatchedPair]:
    """A master and its replica, watched by Sentinels."""
    options = {"master_name": "main"}
    conf = {"broker_transport_options": options, "result_backend_transport_options": options}
    monkeypatch.setenv("CONF", json.dumps(conf))
    with watched_pair(tmp_path) as made:
        yield made


REDIS = pytest.param("redis", marks=pytest.mark.skipif(redis_binary() is None, reason="redis-server is not installed"))


@pytest.mark.parametrize("redis_urls", ["tls", "unix", "user", "several", REDIS], indirect=True)
def test_workers_and_clients_reach_the_server(app: Any, start: Start, tmp_path: Path) -> None:
    from celery import chord

    start("prefork", "-c", "1", "-E").wait_until_ready()
    assert app.add.apply_async((1, 2), countdown=0.2).get(timeout=20) == 3
    assert chord([app.add.s(1, 1), app.add.s(2, 2)], app.total.s())().get(timeout=20) == 6
    assert app.app.control.ping(timeout=30, limit=1) == [{"w0@test": {"ok": "pong"}}]
    log = (tmp_path / "w0.log").read_text()
    assert app.app.control.inspect(timeout=30, limit=1).stats()["w0@test"]["broker"]["transport"].startswith("laneway")
    assert "p@ss" not in log
    assert "p%40ss" not in log


def test_an_untrusted_certificate_is_refused(valkey: RunningValkey, tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, name="127.0.0.1", alternative="IP:127.0.0.1")
    with tls_front(valkey.port, cert, key) as secure, pytest.raises(ServerLost, match="certificate"):
        Engine.from_url(f"rediss://127.0.0.1:{secure}/0").check()


def test_tls_settings_of_celery_turn_tls_on(valkey: RunningValkey, tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, name="127.0.0.1", alternative="IP:127.0.0.1")
    with tls_front(valkey.port, cert, key) as secure:
        ssl: Any = {"ssl_ca_certs": str(cert), "ssl_cert_reqs": "required"}
        with Connection(f"redis://127.0.0.1:{secure}/0", transport="laneway:Transport", ssl=ssl) as connection:
            connection.connect()
            assert issubclass(connection.transport.engine.runner.pool.connection_class, redis.SSLConnection)


def test_a_wrong_password_is_named_in_the_error(valkey: RunningValkey) -> None:
    with pytest.raises(ServerLost, match=r"invalid username-password|WRONGPASS"):
        Engine.from_url(f"redis://nobody:nothing@127.0.0.1:{valkey.port}/0").check()


@pytest.mark.parametrize(
    ("url", "problem"), [("sentinel://127.0.0.1:1", "master_name"), ("http://127.0.0.1", "is not one of")]
)
def test_an_address_that_cannot_be_used_is_named(url: str, problem: str) -> None:
    with pytest.raises(InvalidUrl, match=problem):
        Engine.from_url(url)


def test_the_next_address_is_tried_with_this_transport(valkey: RunningValkey) -> None:
    urls = f"redis://127.0.0.1:{free_port()}/0;{valkey.url(3)}"
    with Connection(urls, transport="laneway:Transport", connect_timeout=1) as connection:
        connection.ensure_connection(max_retries=3, interval_start=0)
        assert connection.transport.driver_name == "laneway"
        assert connection.transport.engine.runner.pool.connection_kwargs["db"] == 3
        with connection.clone() as other:
            other.ensure_connection(max_retries=3, interval_start=0)
            assert other.transport.driver_name == "laneway"


@pytest.mark.parametrize("binary", [None, redis_binary()])
def test_a_replica_is_refused_as_a_broker_and_its_connection_is_closed(binary: Path | None, tmp_path: Path) -> None:
    with server(tmp_path / "master") as master, server(tmp_path / "replica", binary=binary) as port:
        with redis.Redis(port=port) as replica:
            replica.replicaof("127.0.0.1", str(master))
        with pytest.raises(ServerLost, match="READONLY"):
            Engine.from_url(f"redis://127.0.0.1:{port}/0").put("q", Message(task_id="t", name="x", body=b"\0[]"))


def test_a_worker_warns_of_a_server_that_may_evict_messages(
    app: Any, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(tmp_path / "evicting", "--maxmemory-policy", "allkeys-lru") as port:
        monkeypatch.setenv("BROKER", f"redis://127.0.0.1:{port}/0")
        start("solo").wait_until_ready()
        assert "maxmemory-policy is 'allkeys-lru'" in (tmp_path / "w0.log").read_text()


@pytest.mark.parametrize("redis_urls", ["sentinel"], indirect=True)
def test_a_worker_follows_its_sentinels_to_the_new_master(
    app: Any, start: Start, pair: WatchedPair, redis_urls: RedisUrls
) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    assert app.add.delay(1, 2).get(timeout=20) == 3
    app.add.apply_async((1, 1), countdown=600)
    with redis.Redis(port=pair.replica) as replica:
        wait_for(lambda: replica.exists("laneway:{celery}:scheduled") == 1)
        pair.kill_master()
        wait_for(lambda: app.add.delay(2, 3).get(timeout=5) == 5, seconds=60)
        assert replica.info("replication")["role"] == "master"
        assert replica.zcard("laneway:{celery}:scheduled") == 1
