"""Servers that are set up wrongly, as `laneway doctor` sees them: real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from laneway.doctor.server_facts import collect_server
from laneway.doctor.server_rules import CHECKS
from laneway.engine import Engine
from laneway.engine.errors import LoginRefused, ServerLost
from tests.fixtures.judging import findings
from tests.fixtures.valkey import RunningValkey, free_port

OPEN = {"login": "warning"}
"""The servers of the tests want no login."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningValkey]:
    """A server of its own, which a test sets up wrongly."""
    running = RunningValkey(tmp_path, port=free_port())
    running.start()
    with redis.Redis(port=running.port) as client:
        client.config_set("maxmemory", "100mb")
    yield running
    running.kill()


def configure(server: RunningValkey, **settings: str) -> None:
    with redis.Redis(port=server.port) as client:
        for name, value in settings.items():
            client.config_set(name.replace("_", "-"), value)


def found(server: RunningValkey, url: str | None = None) -> dict[str, str]:
    """Check → the severity of its finding."""
    engine = Engine.from_url(url or server.url(), socket_timeout=5)
    try:
        return findings(CHECKS, collect_server(engine, url or server.url()))
    finally:
        engine.close()


def test_the_server_that_laneway_starts_is_fine_but_for_its_login(server: RunningValkey) -> None:
    engine = Engine.from_url(server.url(), socket_timeout=5)
    facts = collect_server(engine, server.url())
    engine.close()

    assert findings(CHECKS, facts) == OPEN
    assert (facts.role, facts.append_only, facts.denied, facts.refuses_writes) == ("master", True, (), "")
    assert abs(facts.clock_offset or 9) < 0.5, "the same machine"


def test_a_server_that_evicts_keeps_nothing_and_has_no_limit(server: RunningValkey) -> None:
    configure(server, maxmemory="0", maxmemory_policy="allkeys-lru", appendonly="no")

    assert found(server) == OPEN | {"eviction policy": "error", "append-only file": "error", "memory": "warning"}


def test_a_full_server_and_a_lazy_disk_are_seen(server: RunningValkey) -> None:
    configure(server, appendfsync="no")
    with redis.Redis(port=server.port) as client:
        for number in range(50):  # one large command would count too, until the server forgets it, and be a slow one
            client.set(f"ballast-{number}", "x" * 1_000_000)
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", str(int(used * 1.04)))

    assert found(server) == OPEN | {"memory": "error", "appendfsync": "warning"}


def test_a_replica_takes_no_writes(server: RunningValkey) -> None:
    with redis.Redis(port=server.port) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))

    seen = found(server)

    assert {"role": "error", "writes": "error"}.items() <= seen.items()


def test_a_login_with_too_few_rights_is_named(server: RunningValkey) -> None:
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "small", "on", ">pw", "~*", "&*", "+@all", "-eval", "-info", "-config")

    engine = Engine.from_url(f"redis://small:pw@127.0.0.1:{server.port}/0", socket_timeout=5)
    facts = collect_server(engine, "redis://127.0.0.1/0")
    engine.close()

    assert facts.denied == ("EVAL", "INFO")
    assert (facts.eviction, facts.append_fsync) == (None, None)
    assert findings(CHECKS, facts) == OPEN | {"rights": "error"}, "the default user has no password"


def test_a_server_with_a_password_is_not_open(server: RunningValkey) -> None:
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "s3cret")

    assert found(server, f"redis://:s3cret@127.0.0.1:{server.port}/0") == {}
    with pytest.raises(LoginRefused):
        found(server, f"redis://:wrong@127.0.0.1:{server.port}/0")
    with pytest.raises(LoginRefused):
        found(server)


def test_slow_commands_are_named_without_what_they_carry(server: RunningValkey) -> None:
    with redis.Redis(port=server.port) as client:
        client.config_set("slowlog-log-slower-than", "0")
        client.eval("local n = 0; for i = 1, 30000000 do n = n + i end return n", 0, "secret-payload")
        client.config_set("slowlog-log-slower-than", "1000000")

    engine = Engine.from_url(server.url(), socket_timeout=5)
    facts = collect_server(engine, server.url())
    engine.close()

    assert findings(CHECKS, facts) == OPEN | {"slow commands": "warning"}
    assert "secret" not in str(facts)


def test_a_server_that_is_away_is_an_error(server: RunningValkey) -> None:
    server.kill()

    with pytest.raises(ServerLost):
        found(server)


def test_the_clock_of_another_machine_is_compared(server: RunningValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 60)
    engine: Any = Engine.from_url(server.url(), socket_timeout=5)
    facts = collect_server(engine, server.url())
    engine.close()

    assert 59 < (facts.clock_offset or 0) < 61
