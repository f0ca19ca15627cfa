"""The rules for the server: one that is set up well has no finding, and each change for the worse has exactly one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from laneway.doctor.findings import Fine, Unchecked
from laneway.doctor.server_facts import ServerFacts, SlowCommand
from laneway.doctor.server_rules import CHECKS
from tests.fixtures.judging import findings, judged

MIB = 1_048_576
GOOD = ServerFacts(
    address="127.0.0.1:6379",
    is_local=True,
    uses_tls=False,
    is_open=False,
    product="Valkey",
    version="9.1.0",
    role="master",
    is_cluster=False,
    eviction="noeviction",
    evicted_keys=0,
    append_only=True,
    append_fsync="everysec",
    append_write="ok",
    append_rewrite="ok",
    delayed_fsyncs=0,
    snapshots="",
    last_snapshot="ok",
    uptime_seconds=3600,
    used_memory=10 * MIB,
    max_memory=100 * MIB,
    system_memory=1000 * MIB,
    clients=10,
    max_clients=1000,
    rejected_clients=0,
    latency_ms=0.2,
    slow=(),
    denied=(),
)


def test_a_good_server_has_no_finding() -> None:
    outcomes = judged(CHECKS, GOOD)

    assert {type(outcome) for outcome in outcomes.values()} == {Fine}
    assert len(outcomes) == len(CHECKS)


@pytest.mark.parametrize(
    ("change", "check", "severity"),
    [
        ({"version": "6.0.16", "product": "Redis"}, "version", "error"),
        ({"version": "7.0.15", "product": "Redis"}, "version", "warning"),
        ({"role": "slave"}, "role", "error"),
        ({"is_cluster": True}, "cluster", "error"),
        ({"refuses_writes": "MISCONF …"}, "writes", "error"),
        ({"eviction": "allkeys-lru"}, "eviction policy", "error"),
        ({"evicted_keys": 7}, "evicted keys", "error"),
        ({"append_only": False}, "append-only file", "error"),
        ({"append_fsync": "no"}, "appendfsync", "warning"),
        ({"append_write": "err"}, "persistence", "error"),
        ({"append_rewrite": "err"}, "persistence", "warning"),
        ({"snapshots": "3600 1", "last_snapshot": "err"}, "persistence", "error"),
        ({"delayed_fsyncs": 11}, "fsync delays", "warning"),
        ({"max_memory": 0}, "memory", "warning"),
        ({"max_memory": 2000 * MIB}, "memory", "warning"),
        ({"used_memory": 61 * MIB}, "memory", "warning"),
        ({"used_memory": 81 * MIB}, "memory", "error"),
        ({"clients": 801}, "connections", "warning"),
        ({"rejected_clients": 1}, "connections", "warning"),
        ({"denied": ("EVAL",)}, "rights", "error"),
        ({"is_open": True}, "login", "warning"),
        ({"is_open": True, "is_local": False, "uses_tls": True}, "login", "error"),
        ({"is_local": False}, "encryption", "warning"),
        ({"latency_ms": 11.0}, "latency", "warning"),
        ({"latency_ms": 101.0}, "latency", "error"),
        ({"slow": (SlowCommand(command="KEYS", ms=51.0),)}, "slow commands", "warning"),
    ],
)
def test_each_thing_that_is_wrong_is_one_finding(change: dict[str, Any], check: str, severity: str) -> None:
    assert findings(CHECKS, replace(GOOD, **change)) == {check: severity}


@pytest.mark.parametrize(
    "change",
    [
        {"snapshots": "", "last_snapshot": "err"},  # snapshots are off: the status is an old one
        {"delayed_fsyncs": 20, "uptime_seconds": 86_400},
        {"slow": (SlowCommand(command="EVALSHA", ms=49.0),)},
        {"used_memory": 60 * MIB},
        {"is_local": False, "uses_tls": True},
    ],
)
def test_what_is_near_a_bound_is_no_finding(change: dict[str, Any]) -> None:
    assert findings(CHECKS, replace(GOOD, **change)) == {}


def test_what_the_login_may_not_see_is_said() -> None:
    bare = ServerFacts(address="a:1", is_local=True, uses_tls=False)

    outcomes = judged(CHECKS, bare)

    assert isinstance(outcomes["eviction policy"], Unchecked)
    assert "eviction" in outcomes["eviction policy"].reason
    assert findings(CHECKS, bare) == {}
