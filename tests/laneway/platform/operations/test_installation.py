"""An installation has one id, and knows the broker of another one."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from laneway.platform.db.session import Database
from laneway.platform.operations.installation import ForeignBroker, Installation
from tests.fixtures.platform import Platform


def installation(platform: Platform, database: Database | None = None) -> Installation:
    """The installation as another process sees it."""
    return Installation(database or platform.database, platform.broker, broker_address="redis://here:6379/0")


def test_all_processes_on_one_database_have_the_same_id(platform: Platform) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: installation(platform).id, range(8)))

    assert len(ids) == 1 and len(ids.pop()) == 32


def test_the_broker_of_another_installation_is_refused_until_it_is_adopted(
    platform: Platform, sqlite_template: Path, tmp_path: Path
) -> None:
    other = shutil.copyfile(sqlite_template, tmp_path / "other.db")
    ours, theirs = installation(platform), installation(platform, Database(f"sqlite:///{other}"))
    ours.check_broker()
    ours.check_broker()
    with pytest.raises(ForeignBroker, match=f"belongs to another installation .{ours.id}.; this one is {theirs.id}"):
        theirs.check_broker()

    theirs.check_broker(adopt=True)
    with pytest.raises(ForeignBroker):
        ours.check_broker()


def test_a_broker_that_cannot_be_reached_is_not_judged(platform: Platform) -> None:
    platform.valkey.stop()
    try:
        installation(platform).check_broker()
    finally:
        platform.valkey.start()


def test_each_write_is_tried_and_a_recent_one_is_believed(platform: Platform) -> None:
    own = installation(platform)
    own.check_writes()
    with platform.without_database():
        own.check_writes()
