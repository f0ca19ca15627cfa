"""`laneway doctor` in a project: a real installation, and what is wrong with it. It runs what docs/doctor.md shows."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import delete

from laneway.doctor.fleet_rules import CHECKS, FleetFacts
from laneway.engine import Message
from laneway.platform import clock
from laneway.platform.db.models import Worker
from laneway.platform.db.queries import workers
from laneway.platform.diagnosis.fleet_facts import collect_fleet
from tests.fixtures.judging import findings
from tests.fixtures.shell import Shell

BARE = {
    "server: login": "warning",
    "server: memory": "warning",
    "settings: lease": "warning",
    "fleet: workers": "error",
    "fleet: Beat": "error",
}
"""What is wrong with an installation for tests that has a broker and a database only."""


BY_SPEED = ("database: writes", "server: latency", "server: slow commands", "server: fsync delays", "database: room")
"""What depends on how busy this machine is."""
CELERY = "celery: "
"""The app of this process also has the tasks of other tests; the rules have tests of their own."""


def found(shell: Shell, *words: str) -> dict[str, str]:
    """`area: check` → the severity of its finding."""
    data: Any = shell("doctor", "--json", *words).json()
    seen = {f"{each['area']}: {each['check']}": each["severity"] for each in data["findings"]}
    return {name: severity for name, severity in seen.items() if name not in BY_SPEED and not name.startswith(CELERY)}


def fleet(shell: Shell) -> FleetFacts:
    """What is learned of the fleet now."""
    return collect_fleet(shell.site.services, shell.site.app, version="0.1.0")


def test_an_installation_without_workers_is_told_so(laneway: Shell) -> None:
    ran = laneway("doctor")

    assert found(laneway) == BARE
    assert ran.code == 1
    assert "ERROR  fleet: workers" in ran.out
    assert "    Do:  laneway up, or laneway worker NAME" in ran.out
    assert "2 errors, " in ran.out


def test_a_server_that_evicts_and_stores_nothing_is_an_error(laneway: Shell) -> None:
    with redis.Redis(port=laneway.site.valkey.port) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        try:
            seen = found(laneway)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("appendonly", "yes")

    assert seen == BARE | {"server: eviction policy": "error", "server: append-only file": "error"}


def test_a_frozen_broker_hides_neither_database_nor_settings(laneway: Shell) -> None:
    with laneway.site.valkey.frozen():
        data = laneway("doctor", "--json", "--timeout", "5s").json()

    found = {f"{each['area']}: {each['check']}" for each in data["findings"]}
    assert "server: reachable" in found
    assert "fleet: workers" in found, "the database knows it"
    assert {each["area"] for each in data["fine"]} >= {"settings", "database", "versions", "celery"}


def test_a_paused_queue_and_messages_that_nobody_takes_are_named(laneway: Shell) -> None:
    engine = laneway.site.services.broker.engine
    assert engine is not None
    laneway("queues", "pause", "crm")
    engine.put("old-name", Message(task_id="t-1", name="x", body=b"[]"))
    with redis.Redis(port=laneway.site.valkey.port) as client:
        client.lpush("celery", b"{}")
        try:
            seen = found(laneway)
        finally:
            client.delete("celery")
    engine.delete("old-name")
    laneway("queues", "resume", "crm")

    assert seen == BARE | {
        "fleet: paused queues": "warning",
        "fleet: unknown queues": "warning",
        "fleet: stranded messages": "warning",
    }


def test_a_worker_that_is_frozen_is_alive_until_it_is_missed(laneway: Shell) -> None:
    node = laneway.site.worker(queues="analytics", app="app.core.celery_app:celery_app", pool="solo", concurrency=1)
    try:
        living = found(laneway)
        node.signal(signal.SIGSTOP)
        later = clock.now() + workers.ALIVE
        with clock.replaced(lambda: later):
            silent = findings(CHECKS, fleet(laneway))
    finally:
        node.kill()
        laneway.site.nodes.remove(node)
        with laneway.site.services.database.transaction() as session:
            session.execute(delete(Worker))

    assert "fleet: workers" not in living
    assert living["fleet: queues without a worker"] == "warning"
    assert (silent["workers"], silent["silent workers"]) == ("error", "warning")


def test_a_task_that_stays_in_the_outbox_is_an_error(laneway: Shell) -> None:
    site = laneway.site
    site.valkey.stop()
    try:
        site.message("c-1")
    finally:
        site.valkey.start()
    later = clock.now() + workers.ALIVE * 2
    with clock.replaced(lambda: later):
        seen = findings(CHECKS, fleet(laneway))

    assert seen["outbox"] == "error"


def test_settings_that_are_not_valid_are_a_finding(laneway: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_LEASE_SECONDS", "1")
    ran = laneway("doctor", "--json")

    (finding,) = ran.json()["findings"]
    assert (finding["check"], ran.code) == ("validity", 1)
    assert "TASK_LEASE_SECONDS" in finding["found"]
    assert {each["area"] for each in ran.json()["not_checked"]} == {"server", "database", "fleet", "celery"}


def test_strict_fails_for_warnings_and_quiet_prints_findings_only(laneway: Shell) -> None:
    quiet = laneway("doctor", "--quiet")
    everything = laneway("doctor", "--all")

    assert "Fine:" not in quiet.out
    assert "fine  database: migrations" in everything.out
    assert laneway("doctor", "--all", "--quiet").code == 2
    assert laneway("doctor", "no.such:app").code == 2


def test_it_changes_nothing_and_makes_no_file(laneway: Shell, tmp_path: Path) -> None:
    ran = laneway.process("doctor", "--json", DATA_DIR=str(tmp_path / "new"))

    checks = {f"{each['area']}: {each['check']}" for each in ran.json()["findings"]}
    assert "database: reachable" in checks
    assert not (tmp_path / "new" / "laneway.db").exists()


def test_a_platform_at_a_url_has_no_doctor(laneway: Shell) -> None:
    ran = laneway("--url", "http://127.0.0.1:9", "doctor")

    assert (ran.code, "needs the project" in ran.err) == (2, True)
