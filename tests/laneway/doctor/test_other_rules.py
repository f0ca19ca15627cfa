"""The rules for settings, versions, clocks, the database and the fleet: each thing that is wrong is one finding."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from laneway.doctor import clock_rules, database_rules, fleet_rules, settings_rules, version_rules
from laneway.doctor.clock_rules import ClockFacts
from laneway.doctor.database_rules import DatabaseFacts, DeadRows, Tables
from laneway.doctor.findings import Check, Finding, Unchecked
from laneway.doctor.fleet_rules import FleetFacts, QueueState, WorkerState
from laneway.doctor.settings_rules import SettingsFacts
from laneway.doctor.version_facts import VersionFacts, collect_versions, fulfils, numbers
from tests.fixtures.judging import findings, judged

GIB = 1_073_741_824
HEAD = Tables(version_table="laneway_version", found="0005", needed="0005")
VERSIONS = VersionFacts(
    packages={"laneway": "1.0", "celery": "5.7.0", "kombu": "5.7.1", "redis": "8.1.0", "hiredis": "3.3.0"},
    required={"celery": ">=5.7,<5.8", "kombu": ">=5.7,<5.8", "redis": ">=8,<9"},
)
SQLITE = DatabaseFacts(
    address="sqlite:///x.db",
    is_sqlite=True,
    version="3.45.1",
    tables=[HEAD],
    write_ms=1.0,
    size=1,
    wal=1,
    free=100 * GIB,
    file_system="ext4",
    journal_mode="wal",
)
POSTGRESQL = DatabaseFacts(
    address="postgresql://db/x",
    is_sqlite=False,
    version="17.0",
    tables=[HEAD],
    write_ms=1.0,
    size=1,
    wal=1,
    free=100 * GIB,
    max_connections=200,
    used_connections=20,
    wanted_connections=60,
    settings={"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "autovacuum": "on"},
    is_standby=False,
    oldest_transaction=1.0,
    dead_rows=[DeadRows(table="task_runs", dead=100_000, live=10)],
    idle_slots=[],
    xid_age=1000,
)
WORKER = WorkerState(name="w@a", host="a", version="1.0")
FLEET = FleetFacts(
    queues=[QueueState(name="mail", waiting=3, most=100, most_unread=1000)],
    workers=[WORKER],
    version="1.0",
    is_on_sqlite=True,
    broker_owner="own",
    beat_runs=True,
    schedules=2,
    standstills=[],
    unknown_queues=[],
    stranded=[],
    outbox=1,
    outbox_seconds=1.0,
    not_in_force=[],
    alerts=[],
    most_dead=100,
)
PRODUCTION = SettingsFacts(is_production=True)


def queue(**change: Any) -> dict[str, Any]:
    """One queue of a fleet."""
    return {"queues": [replace(FLEET.queues[0], **change)]}


@pytest.mark.parametrize(
    ("good", "checks", "change", "check", "severity"),
    [
        (PRODUCTION, settings_rules.checks_for, {"problems": ["X must be 1"]}, "validity", "error"),
        (PRODUCTION, settings_rules.checks_for, {"misspelt": ["X is no setting."]}, "spelling", "warning"),
        (PRODUCTION, settings_rules.checks_for, {"exceptions": ["DATA_DIR"]}, "exceptions", "warning"),
        (PRODUCTION, settings_rules.checks_for, {"signs": False}, "signatures", "warning"),
        (PRODUCTION, settings_rules.checks_for, {"alert_backlog": 10_000}, "backlog", "warning"),
        (PRODUCTION, settings_rules.checks_for, {"lease_seconds": 3.0}, "lease", "warning"),
        (PRODUCTION, settings_rules.checks_for, {"status_hours": 721}, "retention", "warning"),
        (PRODUCTION, settings_rules.checks_for, {"log_level": "DEBUG"}, "logs", "warning"),
        (VERSIONS, version_rules.CHECKS, {"python": (3, 10)}, "Python", "error"),
        (VERSIONS, version_rules.CHECKS, {"python": (3, 99)}, "Python", "warning"),
        (VERSIONS, version_rules.CHECKS, {"has_zones": False}, "time zones", "error"),
        (SQLITE, database_rules.checks_for, {"version": "3.34.1"}, "version", "error"),
        (SQLITE, database_rules.checks_for, {"tables": [replace(HEAD, found="0001")]}, "migrations", "error"),
        (SQLITE, database_rules.checks_for, {"tables": [replace(HEAD, found=None)]}, "migrations", "error"),
        (
            SQLITE,
            database_rules.checks_for,
            {"tables": [replace(HEAD, found="0099", is_newer=True)]},
            "migrations",
            "warning",
        ),
        (SQLITE, database_rules.checks_for, {"write_error": "the disk is full"}, "writes", "error"),
        (SQLITE, database_rules.checks_for, {"write_ms": 101.0}, "writes", "warning"),
        (SQLITE, database_rules.checks_for, {"write_ms": 1001.0}, "writes", "error"),
        (SQLITE, database_rules.checks_for, {"free": GIB}, "room", "warning"),
        (SQLITE, database_rules.checks_for, {"free": GIB // 8}, "room", "error"),
        (SQLITE, database_rules.checks_for, {"wal": GIB}, "write-ahead log", "warning"),
        (SQLITE, database_rules.checks_for, {"file_system": "nfs4"}, "file system", "error"),
        (SQLITE, database_rules.checks_for, {"journal_mode": "delete"}, "journal mode", "warning"),
        (POSTGRESQL, database_rules.checks_for, {"wal": 5 * GIB}, "write-ahead log", "warning"),
        (POSTGRESQL, database_rules.checks_for, {"used_connections": 190}, "connections", "error"),
        (POSTGRESQL, database_rules.checks_for, {"wanted_connections": 201}, "connections", "warning"),
        (POSTGRESQL, database_rules.checks_for, {"settings": {"fsync": "off"}}, "durability", "error"),
        (POSTGRESQL, database_rules.checks_for, {"settings": {"synchronous_commit": "off"}}, "durability", "warning"),
        (POSTGRESQL, database_rules.checks_for, {"settings": {"autovacuum": "off"}}, "autovacuum", "error"),
        (
            POSTGRESQL,
            database_rules.checks_for,
            {"settings": {"default_transaction_read_only": "on"}},
            "standby",
            "error",
        ),
        (POSTGRESQL, database_rules.checks_for, {"is_standby": True}, "standby", "error"),
        (
            POSTGRESQL,
            database_rules.checks_for,
            {"dead_rows": [DeadRows(table="task_runs", dead=100_001, live=10)]},
            "autovacuum",
            "warning",
        ),
        (POSTGRESQL, database_rules.checks_for, {"oldest_transaction": 601.0}, "old transactions", "warning"),
        (POSTGRESQL, database_rules.checks_for, {"idle_slots": ["old"]}, "replication slots", "warning"),
        (POSTGRESQL, database_rules.checks_for, {"xid_age": 1_000_000_001}, "transaction ids", "error"),
        (FLEET, fleet_rules.CHECKS, {"broker_owner": "d701"}, "installation", "error"),
        (FLEET, fleet_rules.CHECKS, {"workers": []}, "workers", "error"),
        (FLEET, fleet_rules.CHECKS, queue(workers=0), "queues without a worker", "error"),
        (FLEET, fleet_rules.CHECKS, queue(workers=0, waiting=0), "queues without a worker", "warning"),
        (FLEET, fleet_rules.CHECKS, {"shared_names": ["w@a (2)"]}, "names of workers", "error"),
        (FLEET, fleet_rules.CHECKS, {"workers": [WORKER, replace(WORKER, alive=False)]}, "silent workers", "warning"),
        (
            FLEET,
            fleet_rules.CHECKS,
            {"workers": [WORKER, replace(WORKER, version="0.9")]},
            "versions of workers",
            "warning",
        ),
        (FLEET, fleet_rules.CHECKS, {"workers": [WORKER, replace(WORKER, host="b")]}, "machines", "error"),
        (FLEET, fleet_rules.CHECKS, {"beat_runs": False}, "Beat", "error"),
        (FLEET, fleet_rules.CHECKS, {"standstills": ["the schedule 'x' was due"]}, "Beat", "error"),
        (FLEET, fleet_rules.CHECKS, {"unknown_queues": ["old"]}, "unknown queues", "warning"),
        (FLEET, fleet_rules.CHECKS, {"stranded": ["celery (1)"]}, "stranded messages", "warning"),
        (FLEET, fleet_rules.CHECKS, {"outbox_seconds": 31.0}, "outbox", "error"),
        (FLEET, fleet_rules.CHECKS, queue(unread=800), "recorder", "error"),
        (FLEET, fleet_rules.CHECKS, queue(unread=5001, most_unread=100_000), "recorder", "warning"),
        (FLEET, fleet_rules.CHECKS, queue(waiting=80), "full queues", "error"),
        (FLEET, fleet_rules.CHECKS, queue(dead=80), "dead letters", "warning"),
        (FLEET, fleet_rules.CHECKS, queue(paused=True), "paused queues", "warning"),
        (FLEET, fleet_rules.CHECKS, {"not_in_force": ["mail"]}, "limits of queues", "warning"),
        (FLEET, fleet_rules.CHECKS, {"alerts": ["1 task waits"]}, "alerts", "warning"),
        (ClockFacts(), clock_rules.CHECKS, {"server": 2.0}, "server", "warning"),
        (ClockFacts(), clock_rules.CHECKS, {"server": -11.0}, "server", "error"),
        (ClockFacts(), clock_rules.CHECKS, {"database": 2.0}, "database", "warning"),
        (ClockFacts(), clock_rules.CHECKS, {"workers": {"a": 0.0, "b": 60.0}}, "workers", "error"),
    ],
)
def test_each_thing_that_is_wrong_is_one_finding(
    good: Any,
    checks: Sequence[Check[Any]] | Callable[[Any], Sequence[Check[Any]]],
    change: dict[str, Any],
    check: str,
    severity: str,
) -> None:
    facts = replace(good, **change)
    rules, fine = (checks(facts), checks(good)) if callable(checks) else (checks, checks)

    assert findings(fine, good) == {}
    assert findings(rules, facts) == {check: severity}


def test_what_is_not_known_is_no_finding() -> None:
    assert findings(fleet_rules.CHECKS, FleetFacts(workers=[WORKER])) == {}
    assert isinstance(judged(fleet_rules.CHECKS, FleetFacts())["outbox"], Unchecked)


@pytest.mark.parametrize(
    "packages",
    [
        {"celery": "5.6.3", "redis": "4.6.0"},
        {"celery": "5.7.0", "kombu": "5.6.2"},
        {"kombu": "5.3.7"},
        {"kombu": "5.6.1", "redis": "4.5.4"},
        {"redis": "4.5.5"},
        {"redis": "8.0.0", "hiredis": "3.1.0"},
    ],
)
def test_combinations_that_do_not_work_are_known(packages: dict[str, str]) -> None:
    assert findings(version_rules.CHECKS, VersionFacts(packages=packages)) == {"combinations": "error"}


def test_a_package_of_another_version_is_named() -> None:
    facts = replace(VERSIONS, packages={**VERSIONS.packages, "celery": "5.6.3"})

    told = judged(version_rules.CHECKS, facts)["packages"]

    assert isinstance(told, Finding)
    assert told.found == "celery is 5.6.3 (needed: >=5.7,<5.8)."
    assert told.do == "pip install 'celery>=5.7,<5.8' 'kombu>=5.7,<5.8' 'redis>=8,<9'"


@pytest.mark.parametrize(
    ("version", "specification", "expected"),
    [
        ("5.7.0", ">=5.7,<5.8", True),
        ("5.7.0rc1", ">=5.7", True),
        ("5.8", ">=5.7,<5.8", False),
        ("8", ">=8.0.0", True),
        ("5.10", ">=5.9", True),
        ("1.4.9", "~=1.4", True),
        ("2.0", "~=1.4", False),
        ("2.0", "!=2.0", False),
        ("2.0", "==2", True),
        ("2.0", "<=1.9", False),
        ("2.0", ">2.0", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, specification: str, *, expected: bool) -> None:
    assert fulfils(version, specification) is expected


def test_this_environment_has_what_laneway_needs() -> None:
    facts = collect_versions()

    assert {"celery", "kombu", "redis"} <= facts.required.keys()
    assert numbers(facts.packages["celery"]) >= (5, 7)
    assert findings(version_rules.CHECKS, facts) == {}


def test_a_finding_says_what_to_do_in_the_words_of_commands_and_settings() -> None:
    bad = replace(FLEET, workers=[], unknown_queues=["old"], **queue(paused=True))

    told = [outcome for outcome in judged(fleet_rules.CHECKS, bad).values() if isinstance(outcome, Finding)]

    assert all(re.search(r"laneway \w+", finding.do) for finding in told)
    assert any("laneway queues resume mail" in finding.do for finding in told)
